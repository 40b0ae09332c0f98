import { LocalBus } from '../../../../src/engine/bus/local/bus.ts';
import { Database } from '../../../../src/engine/database/database.ts';
import { sampleFeeds } from '../../../../src/engine/feed/sample/schedule.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';

/** Process that samples feeds, two at a look, until it is killed. Argument: database URL. */
const [url] = process.argv.slice(2);
const context = { db: new Database(url!), bus: new LocalBus(url!), log: silentLog, id: 'killed' };
sampleFeeds(context, { everyMs: 20, minAgeMs: 0, users: 2, leaseSeconds: 1 });
