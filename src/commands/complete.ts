import { BaseCommand } from '../cli/baseCommand.ts';
import { completions } from '../cli/completion/complete.ts';
import { aboutLine, sourcesOf } from '../cli/completion/sources.ts';

/** First word of scripts that show descriptions. */
const DESCRIBED = '--described';

export default class Complete extends BaseCommand {
  static override hidden = true;
  static override strict = false;
  static override enableJsonFlag = false;
  static override summary = 'Print the possible completions of the last word, for a shell';
  static override description =
    'Made for `feedctl completion`. With --described a tab and a description follow each. An error prints ' +
    'nothing and exits 0.';
  static override examples = [
    '<%= config.bin %> complete -- feed ver',
    '<%= config.bin %> complete -- context use ""',
  ];

  async run(): Promise<void> {
    const described = this.argv[0] === DESCRIBED;
    const given = described ? this.argv.slice(1) : this.argv;
    // The parser would drop a `--` that is the last word itself.
    const words = given[0] === '--' ? given.slice(1) : given;
    const commands = this.config.commands.filter(({ pluginName }) => pluginName === this.config.name);
    const topics = this.config.topics.map(({ name, description }) => ({ name, about: description }));
    const found = await completions(commands, words, sourcesOf(words), topics);
    const lines = found.map(({ value, about }) =>
      described && about ? `${value}\t${aboutLine(about)}\n` : `${value}\n`,
    );
    // A database connection may still be opening: exit does not wait for it.
    await new Promise((done) => process.stdout.write(lines.join(''), done));
    process.exit(0);
  }

  protected override async catch(): Promise<void> {
    process.exitCode = 0;
  }
}
