import type { Bus } from '../bus/bus.ts';
import { liveQueue } from '../live/notifier.ts';
import { unregisterGateway } from '../live/presence.ts';
import type { Database } from '../store/database.ts';
import { dropOldEventPartitions, ensureEventPartitions } from '../store/events.ts';
import { removeDeadWorkers, silentGateways } from '../store/roles.ts';
import type { Log } from '../telemetry/log.ts';

const KEEP_EVENTS_DAYS = 30;
const SILENT_SECONDS = 30;

/** What has to be done now and then, by whichever worker gets to it: every step is idempotent. */
export async function maintain(db: Database, bus: Bus, log: Log): Promise<void> {
  await ensureEventPartitions(db);
  const dropped = await dropOldEventPartitions(db, KEEP_EVENTS_DAYS);
  if (dropped.length > 0) log.info({ partitions: dropped }, 'old events dropped');
  await removeDeadWorkers(db, SILENT_SECONDS);
  for (const gateway of await silentGateways(db, SILENT_SECONDS)) {
    log.warn({ gateway }, 'gateway is gone: its queue is dropped');
    await unregisterGateway(db, gateway);
    await bus.dropQueue(liveQueue(gateway));
  }
}
