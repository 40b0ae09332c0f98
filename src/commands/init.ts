import { createInterface, type Interface } from 'node:readline/promises';
import { BaseCommand } from '../cli/baseCommand.ts';
import { isYes } from '../cli/confirm.ts';
import { dryRunFlag } from '../cli/flags/common.ts';
import { sourceArguments } from '../cli/initAnswers.ts';
import { FeedctlError } from '../engine/model/errors.ts';

const SOURCES = 'a URL without a password, $VARIABLE, @FILE or !COMMAND; empty:';

export default class Init extends BaseCommand {
  static override summary = 'Ask five questions about a cluster, and make a context of the answers';
  static override description =
    `The context is in use afterwards, and \`feedctl context remove\` undoes it. Nothing is
started.

Without a terminal, use \`feedctl context add\`.`;
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = ['<%= config.bin %> init', '<%= config.bin %> init --dry-run'];

  async run(): Promise<void> {
    const { flags } = await this.parse(Init);
    if (!process.stdin.isTTY || this.jsonEnabled())
      throw new FeedctlError('USAGE', '`init` asks questions, which needs a terminal and no --json', {
        suggestions: ['Run `feedctl context add NAME --database-url-env VARIABLE --use`.'],
      });
    const terminal = createInterface({ input: process.stdin, output: process.stderr });
    let answers: string[];
    try {
      answers = await contextArguments(terminal);
    } catch (error) {
      process.stderr.write('\n');
      throw error;
    } finally {
      terminal.close();
    }
    await this.runWithSameConfig('context:add', [...answers, ...(flags['dry-run'] ? ['--dry-run'] : [])]);
    this.log('Try it: `feedctl doctor`.');
  }
}

/** Asks the questions, and returns the arguments of `context add`. Throws INTERRUPTED. */
async function contextArguments(terminal: Interface): Promise<string[]> {
  const closed = new Promise<never>((_, reject) => {
    terminal.once('close', () => reject(new FeedctlError('INTERRUPTED', 'nothing was changed')));
  });
  const ask = async (question: string) =>
    (await Promise.race([terminal.question(`${question}: `), closed])).trim();
  const name = (await ask('1/5 Name of the context, such as prod')) || 'default';
  const database = await ask(`2/5 Database (${SOURCES} the embedded one)`);
  const broker = await ask(`3/5 RabbitMQ (${SOURCES} queues in the database)`);
  const cache = await ask(`4/5 Redis (${SOURCES} no shared cache)`);
  const production = isYes(await ask('5/5 Is it a production cluster, whose changes ask again? [y/N]'));
  return [
    name,
    ...sourceArguments('database-url', database),
    ...sourceArguments('broker-url', broker),
    ...sourceArguments('cache-url', cache),
    ...(production ? ['--production'] : []),
    '--use',
  ];
}
