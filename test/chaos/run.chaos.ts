import { expect, test } from 'vitest';
import { Random } from '../properties/random.ts';
import { openChaosCluster } from './cluster.ts';
import type { Fault } from './fault.ts';
import { FAULTS } from './faults/index.ts';
import { type ChaosOptions, VARIABLE } from './options.ts';
import { plantedNode } from './planted/plant.ts';
import { roundLine, writeReports } from './report.ts';
import type { RoundResult } from './result.ts';
import { runRound, takeUnexpectedEnds } from './round.ts';

/** A planted bug loses posts for ever, so there is no need to wait. */
const PLANTED_QUIET_MS = 20_000;

const print = (line: string): void => void process.stderr.write(`${line}\n`);

/** Names the fault of each round: each one so many times, or at random until the time is over. */
function* schedule(faults: readonly Fault[], { rounds, minutes, seed }: ChaosOptions): Generator<Fault> {
  if (minutes === undefined) {
    for (const fault of faults) for (let i = 0; i < rounds; i += 1) yield fault;
    return;
  }
  const random = new Random(seed);
  const end = performance.now() + minutes * 60_000;
  while (performance.now() < end) yield random.pick(faults);
}

test('nothing is lost, whatever fails', async () => {
  const options = JSON.parse(process.env[VARIABLE] ?? '{}') as ChaosOptions;
  const { seed, paceMs, planted } = options;
  print(`seed ${seed}`);
  const began = new Date();
  const cluster = await openChaosCluster({ ...options.size, ...(planted && { node: plantedNode(planted) }) });
  const possible: Fault[] = [];
  for (const fault of FAULTS.filter(({ name }) => options.faults.includes(name))) {
    const reason = await fault.missing?.(cluster);
    if (reason) print(`${fault.name}: skipped, ${reason}`);
    else possible.push(fault);
  }
  const results: RoundResult[] = [];
  for (const fault of schedule(possible, options)) {
    const round = results.length + 1;
    const about = {
      seed: seed + round,
      round,
      paceMs,
      ...(planted && { quietMs: PLANTED_QUIET_MS }),
      ...(options.verbose && { onNote: print }),
    };
    const result = await runRound(cluster, fault, about).catch((error: Error) => {
      const ends = takeUnexpectedEnds(cluster).join('\n');
      throw new Error(`round ${round}, ${fault.name}, seed ${about.seed}: ${error.message}\n${ends}`, {
        cause: error,
      });
    });
    results.push(result);
    print(roundLine(result));
    await writeReports(options.report, { began, options, cluster, results });
    if (planted && result.findings.length > 0) break;
  }
  const rules = new Set(results.flatMap(({ findings }) => findings.map(({ rule }) => rule)));
  // A role that does not even run shows nothing about the checker.
  expect(results.flatMap(({ unexpectedEnds }) => unexpectedEnds)).toEqual([]);
  if (planted) expect([...rules], 'the rules that the planted bug breaks').not.toEqual([]);
  else expect(results.flatMap(({ findings }) => findings)).toEqual([]);
});
