import type { Command } from '@oclif/core';
import { Help as OclifHelp } from '@oclif/core/help';

/** Commands and topics by task, in the order in which a user meets them. */
export const TASKS: Readonly<Record<string, readonly string[]>> = {
  START: ['demo', 'up', 'down', 'init', 'context'],
  LOOK: ['status', 'top', 'doctor', 'worker', 'gateway', 'queue', 'connection', 'events', 'operation'],
  MEND: ['errors', 'feed', 'dlq', 'cache', 'fanout'],
  DATA: ['user', 'post', 'follow', 'celebrity', 'seed', 'replay'],
  OPERATE: ['migrate', 'cluster', 'node', 'shards'],
  MEASURE: ['probe', 'bench'],
  HELP: ['help', 'completion', 'version'],
};

const EXAMPLES = [
  ['feedctl demo', 'see a cluster at work, and leave nothing behind'],
  ['feedctl up', 'run a cluster on this machine'],
  ['feedctl status --watch', 'watch it'],
  ['feedctl help feed verify', 'read about a command'],
] as const;

/** Help of oclif, with the commands of the first page grouped by task. */
export default class Help extends OclifHelp {
  protected override async showRootHelp(): Promise<void> {
    // `help --nested-commands` lists all of them.
    if (this.opts.all) return super.showRootHelp();
    this.log(this.formatRoot());
    this.log('');
    const about = new Map<string, string>([
      ...this.sortedTopics.map(({ name, description = '' }) => [name, description] as const),
      ...this.sortedCommands.map((command) => [command.id, summaryOf(command)] as const),
    ]);
    for (const [task, names] of Object.entries(TASKS)) {
      const rows = names.map((name): [string, string] => [name, this.render(about.get(name) ?? '')]);
      this.log(this.section(task, this.renderList(rows, LAYOUT)));
      this.log('');
    }
    const examples = EXAMPLES.map(([line, why]): [string, string] => [`$ ${line}`, why]);
    this.log(this.section('EXAMPLES', this.renderList(examples, LAYOUT)));
    this.log('');
    this.log('`feedctl COMMAND --help` or `-h` has the flags of a command.\n');
  }
}

const LAYOUT = { indentation: 2, spacer: '\n' } as const;

const summaryOf = ({ summary, description = '' }: Command.Loadable): string =>
  summary ?? description.split('\n', 1)[0]!;
