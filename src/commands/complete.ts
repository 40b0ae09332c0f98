import { setTimeout as sleep } from 'node:timers/promises';
import { BaseCommand, settingsOf } from '../cli/baseCommand.ts';
import { completions } from '../cli/completion/complete.ts';
import { DURABLE_QUEUES } from '../engine/bus/bus.ts';

/** Maximum wait at Tab for a database that does not answer. */
const TIMEOUT_MS = 1_000;

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
    // The parser would drop a `--` that is the last word itself.
    const words = this.argv[0] === '--' ? this.argv.slice(1) : this.argv;
    const commands = this.config.commands.filter(({ pluginName }) => pluginName === this.config.name);
    const found = await completions(commands, words, {
      contexts: async () => {
        const { listContexts } = await import('../engine/config/contexts.ts');
        return (await listContexts(process.env)).map(({ name }) => name);
      },
      queues: async () => DURABLE_QUEUES,
      nodes: () => Promise.race([this.#nodes(words), sleep(TIMEOUT_MS, [], { ref: false })]),
    });
    // A database connection may still be opening: exit does not wait for it.
    await new Promise((done) => process.stdout.write(found.map((one) => `${one}\n`).join(''), done));
    process.exit(0);
  }

  async #nodes(words: readonly string[]): Promise<string[]> {
    const { loadConfig } = await import('../engine/config/config.ts');
    const { resolveDatabase } = await import('../engine/cluster/cluster.ts');
    const { Database } = await import('../engine/database/database.ts');
    const { citusNodes } = await import('../engine/shards/nodesSql.ts');
    const config = await loadConfig(settingsOf(settingsIn(words)));
    const db = new Database(await resolveDatabase(config), { maxSessions: 1 });
    return (await citusNodes(db)).map(({ name }) => name);
  }

  protected override async catch(): Promise<void> {
    process.exitCode = 0;
  }
}

/** Returns the flags among the words of an incomplete command line. */
function settingsIn(words: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [at, word] of words.entries()) {
    const [, name, value] = /^--([\w-]+)(?:=(.*))?$/.exec(word) ?? [];
    const given = value ?? words[at + 1];
    if (name !== undefined && given) found[name] = given;
  }
  return found;
}
