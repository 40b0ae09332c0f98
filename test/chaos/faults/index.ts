import type { Fault } from '../fault.ts';
import * as broker from './broker.ts';
import * as cache from './cache.ts';
import * as clocks from './clocks.ts';
import * as database from './database.ts';
import * as network from './network.ts';
import * as operators from './operators.ts';
import * as processes from './processes.ts';

/** Every fault, in the order of a run. */
export const FAULTS: readonly Fault[] = [
  processes,
  network,
  broker,
  database,
  cache,
  clocks,
  operators,
].flatMap((module): Fault[] => Object.values(module));
