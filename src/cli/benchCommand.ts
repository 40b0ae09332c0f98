import { constants } from 'node:fs';
import { access, stat, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { Flags } from '@oclif/core';
import type { Machine } from '../engine/bench/machine.ts';
import type { Config } from '../engine/config/config.ts';
import { FeedctlError, messageOf } from '../engine/model/errors.ts';
import type { Plot } from '../ui/bench/plot.ts';
import { formatCount } from '../ui/terminal/format.ts';
import { durationFlag } from './flags/durations.ts';
import { databaseFile, serverFiles, TemporaryCommand } from './temporaryCommand.ts';

/** Columns of a plot where the output is no terminal. */
const PIPE_COLUMNS = 100;

/** Base of the benchmarks: they report each step on stderr, and draw plots of their result. */
export abstract class BenchCommand extends TemporaryCommand {
  static override baseFlags = {
    ...TemporaryCommand.baseFlags,
    ...databaseFile,
    ...serverFiles,
    html: Flags.string({
      description: 'file for a report with plots, the machine and the result',
      helpValue: '<path>',
    }),
  };

  #html: string | undefined;

  protected readonly onProgress = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };

  /** A path that cannot be written is refused before the benchmark, which may take long. */
  protected override async readConfig(flags: Record<string, unknown>): Promise<Config> {
    if (typeof flags.html === 'string') {
      this.#html = resolve(flags.html);
      await checkWritableFile(this.#html);
    }
    return super.readConfig(flags);
  }

  /** Prints the plots and the machine, and writes the report of --html. */
  protected async report(result: { readonly machine: Machine }, plots: readonly Plot[]): Promise<void> {
    const { machine } = result;
    if (!this.jsonEnabled()) {
      const { renderPlot } = await import('../ui/bench/plot.ts');
      const width = process.stdout.columns || PIPE_COLUMNS;
      for (const plot of plots) this.log(`\n${renderPlot(plot, width)}`);
      this.log(`\n${machineText(machine)}.`);
    }
    if (this.#html === undefined) return;
    const { renderReport } = await import('../ui/bench/report.ts');
    const command = ['feedctl', ...(this.id ?? '').split(':'), ...this.argv].join(' ');
    const report = { command, version: this.config.version, at: new Date(), plots, machine, result };
    await writeFile(this.#html, renderReport(report));
    this.logToStderr(`The report is ${this.#html}.`);
  }
}

async function checkWritableFile(path: string): Promise<void> {
  try {
    const exists = await stat(path).then(
      (file) => {
        if (!file.isFile()) throw new Error('it is no file');
        return true;
      },
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return false;
        throw error;
      },
    );
    await access(exists ? path : dirname(path), constants.W_OK);
  } catch (error) {
    throw new FeedctlError('FILE_UNWRITABLE', `${path} cannot be written: ${messageOf(error)}`);
  }
}

/** A flag with a number from 1 to `max`. */
export const countFlag = (description: string, value: number, max = 1_000_000) =>
  Flags.integer({ description, default: value, min: 1, max });

/** A flag with a duration of at most an hour, in seconds. */
export const spanFlag = (description: string, value: number) =>
  durationFlag({ unit: 's', description, default: value, min: 1, max: 3_600 });

/** Flags of benchmarks that can fill the cluster with feed rows first. */
export const storedFlags = {
  stored: Flags.integer({
    description: 'number of feed rows that the cluster holds before the measurement',
    min: 1,
    max: 2_000_000_000,
  }),
  'stored-per-user': countFlag('number of stored rows of each reader', 40, 10_000),
};

/** Returns the rows that these flags ask for, or undefined. */
export const storedOf = (flags: { stored: number | undefined; 'stored-per-user': number }) =>
  flags.stored === undefined ? undefined : { rows: flags.stored, perUser: flags['stored-per-user'] };

/** A bar chart of rates a second. Leaves out rates that were not measured. */
export const ratePlot = (title: string, rates: readonly (readonly [string, number | null])[]): Plot =>
  plotOf(title, rates, (value) => `${formatCount(value)}/s`);

/** A bar chart of milliseconds. */
export const timePlot = (title: string, times: readonly (readonly [string, number])[]): Plot =>
  plotOf(title, times, (value) => `${value} ms`);

/** A bar chart of values that `text` describes. Leaves out values that were not measured. */
export const plotOf = (
  title: string,
  values: readonly (readonly [string, number | null])[],
  text: (value: number) => string,
): Plot => ({
  title,
  bars: values.flatMap(([label, value]) => (value === null ? [] : [{ label, value, text: text(value) }])),
});

/** Describes the machine of a benchmark in one line. */
function machineText({ cores, cpu, memoryGiB, node, postgres, bus, cache }: Machine): string {
  const hardware = `${cores} cores, ${cpu}, ${memoryGiB} GiB`;
  return `${hardware}, Node ${node}, PostgreSQL ${postgres}, bus ${bus}, cache ${cache}`;
}

export const percentilesText = ({ p50, p95, p99 }: { p50: number; p95: number; p99: number }): string =>
  `p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms`;
