import type { Fault } from '../fault.ts';
import * as broker from './broker.ts';
import * as cache from './cache.ts';
import * as citus from './citus.ts';
import * as clocks from './clocks.ts';
import * as database from './database.ts';
import * as disk from './disk.ts';
import { malformedMessages } from './messages.ts';
import * as network from './network.ts';
import * as operators from './operators.ts';
import * as partitions from './partitions.ts';
import * as processes from './processes.ts';
import { rollingUpgrade } from './upgrade.ts';

/** Every fault, in the order of a run. */
export const FAULTS: readonly Fault[] = [
  processes,
  network,
  broker,
  { malformedMessages },
  database,
  disk,
  cache,
  clocks,
  partitions,
  operators,
  { rollingUpgrade },
  citus,
].flatMap((module): Fault[] => Object.values(module));
