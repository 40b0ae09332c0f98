import { LocalBus } from '../../../src/engine/bus/local/bus.ts';
import { notifiedChanges } from '../../../src/engine/cache/invalidation.ts';
import { scheduleEvaluations } from '../../../src/engine/celebrities/schedule.ts';
import { Database } from '../../../src/engine/database/database.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';

/** Process that evaluates celebrities when they are due, until it is killed. Argument: database URL. */
const [url] = process.argv.slice(2);
const db = new Database(url!);
const context = { db, bus: new LocalBus(url!), changes: notifiedChanges, log: silentLog };
scheduleEvaluations(context, 50);
