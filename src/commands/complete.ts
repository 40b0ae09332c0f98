import { setTimeout as sleep } from 'node:timers/promises';
import { BaseCommand, settingsOf } from '../cli/baseCommand.ts';
import { completions } from '../cli/completion/complete.ts';
import { DURABLE_QUEUES } from '../engine/bus/bus.ts';

/** Whoever presses Tab does not wait for a database that is away. */
const DEADLINE_MS = 1_000;

export default class Complete extends BaseCommand {
  static override hidden = true;
  static override strict = false;
  static override enableJsonFlag = false;
  static override summary = 'Print the possible completions of the last word, for a shell';
  static override description = 'Made for `feedctl completion`. An error prints nothing and exits 0.';
  static override examples = [
    '<%= config.bin %> complete -- feed ver',
    '<%= config.bin %> complete -- context use ""',
  ];

  async run(): Promise<void> {
    // Not parsed: a `--` that is the word itself would be gone.
    const words = this.argv[0] === '--' ? this.argv.slice(1) : this.argv;
    const commands = this.config.commands.filter(({ pluginName }) => pluginName === this.config.name);
    const found = await completions(commands, words, {
      contexts: async () => {
        const { listContexts } = await import('../engine/config/contexts.ts');
        return (await listContexts(process.env)).map(({ name }) => name);
      },
      queues: async () => DURABLE_QUEUES,
      nodes: () => Promise.race([this.#nodes(words), sleep(DEADLINE_MS, [], { ref: false })]),
    });
    // A connection that is still being made is not waited for.
    await new Promise((done) => process.stdout.write(found.map((one) => `${one}\n`).join(''), done));
    process.exit(0);
  }

  async #nodes(words: readonly string[]): Promise<string[]> {
    const { loadConfig } = await import('../engine/config/config.ts');
    const { resolveDatabaseUrl } = await import('../engine/cluster/cluster.ts');
    const { Database } = await import('../engine/database/database.ts');
    const { citusNodes } = await import('../engine/shards/nodesSql.ts');
    const config = await loadConfig(settingsOf(settingsIn(words)));
    const db = new Database(await resolveDatabaseUrl(config), { maxSessions: 1 });
    return (await citusNodes(db)).map(({ name }) => name);
  }

  protected override async catch(): Promise<void> {
    process.exitCode = 0;
  }
}

/** Flags that name the cluster, among words that are no whole command line yet. */
function settingsIn(words: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [at, word] of words.entries()) {
    const [, name, value] = /^--([\w-]+)(?:=(.*))?$/.exec(word) ?? [];
    const given = value ?? words[at + 1];
    if (name !== undefined && given) found[name] = given;
  }
  return found;
}
