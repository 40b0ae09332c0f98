import { serverFiles, TemporaryCommand } from '../cli/temporaryCommand.ts';
import { type DemoResult, type DemoSnapshot, runDemo } from '../engine/demo/demo.ts';
import { FeedctlError } from '../engine/model/errors.ts';
import { plainDemo } from '../ui/demo/plain.ts';
import { demoSummary } from '../ui/demo/summary.ts';

export default class Demo extends TemporaryCommand {
  static override summary = 'Run a temporary cluster with real data, and verify every feed and push';
  static override description =
    `Loads a part of a real follow graph, and replays real posts while WebSocket clients
listen. Compares every feed and every push with follows and posts, prints the results
and removes the cluster.

Only --broker-url and --cache-url name servers, not contexts or variables.`;
  static override flags = serverFiles;
  static override examples = ['<%= config.bin %> demo', '<%= config.bin %> demo --json'];

  async run(): Promise<DemoResult> {
    const { flags } = await this.parse(Demo);
    const config = await this.loadConfig(flags);
    if (config.databaseUrl)
      throw new FeedctlError('USAGE', 'the demo makes its own database and takes no --database-url');
    const { signal } = this;
    const view = await this.#view();
    let result: DemoResult;
    try {
      result = await runDemo(config, {
        version: this.config.version,
        signal,
        onUpdate: (snapshot) => view.update(snapshot),
      });
    } finally {
      view.end();
      this.drawing = false;
    }
    // Borders would break the lines of a narrow terminal.
    const borders = process.stdout.isTTY && process.stdout.columns >= 80;
    this.log(demoSummary(result, { borders }));
    const { verify } = result;
    const faults =
      verify.mismatched + verify.asymmetric + verify.stale + verify.duplicates + verify.readsMismatched;
    const { missing, strangers, duplicates } = verify.sockets;
    if (faults + missing + strangers + duplicates > 0 || result.pushed === 0) {
      throw new FeedctlError('DEMO_FAILED', 'verification found a wrong feed or push');
    }
    return result;
  }

  /** Opens a live view on a terminal, which loads Ink. Otherwise each step is a line on stderr. */
  async #view(): Promise<{ update(snapshot: DemoSnapshot): void; end(): void }> {
    if (!process.stderr.isTTY || this.jsonEnabled())
      return plainDemo((line) => process.stderr.write(`${line}\n`));
    this.drawing = true;
    const { liveDemo } = await import('../ui/demo/live.tsx');
    return liveDemo(process.stderr);
  }
}
