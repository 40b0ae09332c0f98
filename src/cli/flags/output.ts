import { Flags } from '@oclif/core';
import { OUTPUTS } from '../outputFormat.ts';
import { durationFlag } from './durations.ts';

const output = (options: readonly string[], description: string, more: { helpGroup?: string } = {}) =>
  Flags.string({ char: 'o', options: [...options], description, exclusive: ['json'], ...more });

/** Flags for the output of all commands. */
export const outputFlags = {
  output: output(['json', 'yaml', 'table'], 'form of the output; table: text for people', {
    helpGroup: 'GLOBAL',
  }),
  quiet: Flags.boolean({
    char: 'q',
    description: 'print no notes and no progress; of a list only the ids',
    helpGroup: 'GLOBAL',
  }),
  'no-color': Flags.boolean({ description: 'print no colours', helpGroup: 'GLOBAL' }),
};

/** Flags of commands that print a table. */
export const tableFlags = {
  output: output(OUTPUTS, 'form of the output; wide shortens nothing, name prints the ids'),
  columns: Flags.string({ description: 'print only these columns of the table', helpValue: '<A,B>' }),
  'no-headers': Flags.boolean({ description: 'print the table without its head' }),
};

/** Flags of commands whose view can be repeated. `BaseCommand` repeats it. */
export const watchFlags = {
  watch: Flags.boolean({ description: 'repeat the view until Ctrl-C' }),
  interval: durationFlag({
    unit: 's',
    min: 0.1,
    description: 'time between two views; default: 2s',
    dependsOn: ['watch'],
  }),
};

/** Flags of a list. */
export const listFlags = { ...tableFlags, ...watchFlags };
