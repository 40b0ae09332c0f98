import type { Machine } from '../engine/bench/machine.ts';
import { databaseFile, serverFiles, TemporaryCommand } from './temporaryCommand.ts';

/** Base of the benchmarks: they report each step on stderr. */
export abstract class BenchCommand extends TemporaryCommand {
  static override baseFlags = { ...TemporaryCommand.baseFlags, ...databaseFile, ...serverFiles };

  protected readonly onProgress = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };
}

/** Describes the machine of a benchmark in one line. */
export function machineText({ cores, cpu, memoryGiB, node, postgres, bus, cache }: Machine): string {
  const hardware = `${cores} cores, ${cpu}, ${memoryGiB} GiB`;
  return `${hardware}, Node ${node}, PostgreSQL ${postgres}, bus ${bus}, cache ${cache}`;
}

export const percentilesText = ({ p50, p95, p99 }: { p50: number; p95: number; p99: number }): string =>
  `p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms`;
