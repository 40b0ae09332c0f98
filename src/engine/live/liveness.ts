import { randomUUID } from 'node:crypto';
import type { Database } from '../database/database.ts';
import { messageOf } from '../model/errors.ts';
import type { Log } from '../telemetry/log.ts';
import type { Hub } from './hub.ts';
import { gatewayHeartbeat, registerGateway, unregisterGateway } from './presence.ts';

const HEARTBEAT_MS = 5_000;
/** Three heartbeats missed: nobody knows what happened meanwhile. Workers declare a gateway dead after 30 s. */
const SILENT_MS = 15_000;
/** Posts that were held up by what has just passed may come as late as this. */
const HOLD_MS = 60_000;

export interface GatewayLiveness {
  /** Whether posts come in live, and every open socket has what came before. */
  readonly caughtUp: boolean;
  stop(): Promise<void>;
}

/**
 * Keeps a gateway in the cluster: registered, its users announced, its queue consumed. Where one of these was lost
 * (the broker's connection, the queue, the rows of presence, heartbeats for 15 s) the gateway is not live until it has
 * all three again and has then caught up every open socket from the feeds. A gateway that was declared dead comes
 * back under another id.
 */
export async function joinCluster(
  context: { db: Database; log: Log; url: string },
  hub: Hub,
): Promise<GatewayLiveness> {
  const { db, log, url } = context;
  let stopped = false;
  /** When live updates were last known to be well; undefined while they are. */
  let wellUntil: number | undefined = Date.now();
  /** What the cluster knows of this gateway is not what it should know. */
  let unknown = false;
  let mismatches = 0;
  /** Counts losses: what is lost during a recovery needs another. */
  let losses = 0;
  let beatAt = performance.now();
  let recovering: Promise<void> | undefined;
  /** Marks are held there; a loss soon after another holds them where they are. */
  let heldAt: number | undefined;
  let release: NodeJS.Timeout | undefined;

  const lost = (why: string, sinceMs = HEARTBEAT_MS) => {
    losses += 1;
    if (wellUntil !== undefined) return;
    wellUntil = Date.now() - sinceMs;
    clearTimeout(release);
    heldAt = Math.min(heldAt ?? wellUntil, wellUntil);
    hub.hold(heldAt);
    log.warn({ gateway: hub.gatewayId, why }, 'live updates are lost: sockets will be caught up');
  };

  const recover = async (): Promise<void> => {
    while (!stopped && hub.consumed) {
      const seen = losses;
      if (unknown) {
        const before = hub.gatewayId;
        await hub.move(randomUUID());
        await registerGateway(db, { id: hub.gatewayId, url });
        unknown = false;
        await unregisterGateway(db, before);
        log.warn({ before, gateway: hub.gatewayId }, 'registered anew');
      }
      await hub.announce();
      await hub.catchUp();
      if (losses !== seen) continue;
      wellUntil = undefined;
      release = setTimeout(() => {
        heldAt = undefined;
        hub.hold(undefined);
      }, HOLD_MS);
      log.info({ gateway: hub.gatewayId, sockets: hub.sockets }, 'live updates are well');
      return;
    }
  };
  const recoverOnce = (): void => {
    recovering ??= recover()
      .catch((error) => log.warn({ reason: messageOf(error) }, 'not caught up yet'))
      .finally(() => {
        recovering = undefined;
      });
  };

  const beat = async (): Promise<void> => {
    const announced = hub.announced;
    const known = await gatewayHeartbeat(db, hub.gatewayId);
    const silent = performance.now() - beatAt;
    beatAt = performance.now();
    if (silent > SILENT_MS) lost(`no heartbeat for ${Math.round(silent / 1000)} s`, silent);
    if (recovering) return;
    // Twice: users come and go while it is counted.
    const differs = known !== undefined && announced !== undefined && hub.announced === announced;
    mismatches = differs && known !== announced ? mismatches + 1 : 0;
    if (known === undefined || mismatches > 1) {
      mismatches = 0;
      unknown = true;
      lost(known === undefined ? 'declared dead' : 'presence');
    }
    if (wellUntil !== undefined) recoverOnce();
    else await hub.retryAnnouncing();
  };

  hub.onConsumed = (consumed) => {
    if (!consumed) lost('the queue is not consumed');
    else if (wellUntil !== undefined) recoverOnce();
  };
  await registerGateway(db, { id: hub.gatewayId, url });
  if (hub.consumed) await recover();
  let beating: Promise<void> | undefined;
  const heartbeat = setInterval(() => {
    beating ??= beat()
      .catch((error) => log.warn({ reason: messageOf(error) }, 'no heartbeat'))
      .finally(() => {
        beating = undefined;
      });
  }, HEARTBEAT_MS);
  return {
    get caughtUp() {
      return wellUntil === undefined && performance.now() - beatAt < SILENT_MS;
    },
    async stop() {
      stopped = true;
      clearInterval(heartbeat);
      clearTimeout(release);
      await beating;
      await recovering;
      await unregisterGateway(db, hub.gatewayId);
    },
  };
}
