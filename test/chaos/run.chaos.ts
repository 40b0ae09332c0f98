import { describe, expect, test } from 'vitest';
import { Random } from '../properties/random.ts';
import { canStartCitusNodes } from '../support/citus.ts';
import { buildPreviousRelease, previousReleaseMissing } from '../support/previousRelease.ts';
import { type ChaosCluster, openChaosCluster } from './cluster.ts';
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

const options = JSON.parse(process.env[VARIABLE] ?? '{}') as ChaosOptions;
const chosen = FAULTS.filter(({ name }) => options.faults.includes(name));
const began = new Date();
const results: RoundResult[] = [];
const { planted } = options;
const common = { ...options.size, disks: true, ...(planted && { node: plantedNode(planted) }) };

/** Names the fault of each round: each one so many times, or at random until the time is over. */
function* schedule(faults: readonly Fault[]): Generator<Fault> {
  const { rounds, minutes, seed } = options;
  if (minutes === undefined) {
    for (const fault of faults) for (let i = 0; i < rounds; i += 1) yield fault;
    return;
  }
  const random = new Random(seed);
  const end = performance.now() + minutes * 60_000;
  while (performance.now() < end) yield random.pick(faults);
}

/** Runs one round. Returns whether a planted bug was found. */
async function run(cluster: ChaosCluster, fault: Fault): Promise<boolean> {
  const round = results.length + 1;
  const about = {
    seed: options.seed + round,
    round,
    paceMs: options.paceMs,
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
  return planted !== undefined && result.findings.length > 0;
}

async function isMissing(fault: Fault, cluster: ChaosCluster): Promise<boolean> {
  const reason = await fault.missing?.(cluster);
  if (reason) print(`*** ${fault.name}: SKIPPED, ${reason} ***`);
  return reason !== undefined;
}

describe(`nothing is lost, whatever fails (seed ${options.seed})`, () => {
  const shared = chosen.filter(({ needs }) => needs === undefined);
  test.skipIf(shared.length === 0)('in one cluster after the other fault', async () => {
    print(`seed ${options.seed}`);
    const cluster = await openChaosCluster(common);
    const possible: Fault[] = [];
    for (const fault of shared) if (!(await isMissing(fault, cluster))) possible.push(fault);
    for (const fault of schedule(possible)) if (await run(cluster, fault)) break;
    expectRight();
  });

  const ofPrevious = chosen.filter(({ needs }) => needs === 'previous release');
  for (const fault of ofPrevious)
    for (let n = 1; n <= options.rounds; n += 1)
      test(`in a cluster of the previous release (${fault.name} ${n})`, async (context) => {
        if (previousReleaseMissing) {
          print(`*** ${fault.name}: SKIPPED, ${previousReleaseMissing} ***`);
          context.skip();
        }
        const cluster = await openChaosCluster({ ...common, binary: await previousRelease() });
        await run(cluster, fault);
        expectRight();
      });

  const ofCitus = chosen.filter(({ needs }) => needs === 'Citus');
  test.skipIf(ofCitus.length === 0)('in a cluster on Citus', async (context) => {
    if (!canStartCitusNodes()) {
      const reason = 'no Citus: FEEDCTL_TEST_POSTGRES_BIN names the binaries of a PostgreSQL that has it';
      for (const { name } of ofCitus) print(`*** ${name}: SKIPPED, ${reason} ***`);
      context.skip();
    }
    const cluster = await openChaosCluster({ ...common, citus: true });
    for (const fault of schedule(ofCitus)) if (await run(cluster, fault)) break;
    expectRight();
  });
});

let building: Promise<string> | undefined;
const previousRelease = (): Promise<string> => {
  building ??= buildPreviousRelease();
  return building;
};

function expectRight(): void {
  const rules = new Set(results.flatMap(({ findings }) => findings.map(({ rule }) => rule)));
  // A role that does not even run shows nothing about the checker.
  expect(results.flatMap(({ unexpectedEnds }) => unexpectedEnds)).toEqual([]);
  if (planted) expect([...rules], 'the rules that the planted bug breaks').not.toEqual([]);
  else expect(results.flatMap(({ findings }) => findings)).toEqual([]);
}
