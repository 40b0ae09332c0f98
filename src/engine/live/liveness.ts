import { randomUUID } from 'node:crypto';
import type { Database } from '../database/database.ts';
import { messageOf } from '../model/errors.ts';
import type { DatabaseClock } from '../store/databaseClock.ts';
import type { Log } from '../telemetry/log.ts';
import { everyTick } from '../util/ticks.ts';
import type { Hub } from './hub.ts';
import { gatewayHeartbeat, registerGateway, unregisterGateway } from './presence.ts';

const HEARTBEAT_MS = 5_000;
/**
 * Three missed heartbeats: posts may have been lost meanwhile. Workers declare a gateway dead after
 * 30 s.
 */
const SILENT_MS = 15_000;
/** Posts that an outage delayed arrive at most this long after it. */
const DELAYED_POSTS_MS = 60_000;
/**
 * Consecutive heartbeats with a wrong number of users that count as a loss: users come and go
 * during a count.
 */
const MAX_MISMATCHES = 1;

export interface GatewayLiveness {
  /** True while posts arrive live and every open socket has all earlier ones. */
  readonly caughtUp: boolean;
  stop(): Promise<void>;
}

interface Context {
  readonly db: Database;
  readonly log: Log;
  readonly clock: DatabaseClock;
  readonly url: string;
}

/**
 * Keeps a gateway in the cluster: registered, its users announced, its queue consumed. A loss is
 * that of the broker's connection, of the queue, of presence rows, or of heartbeats for 15 s. After
 * a loss the gateway is not live until it has all of these again and has caught up every open
 * socket from the feeds. A gateway that was declared dead rejoins under another id.
 */
export async function joinCluster(context: Context, hub: Hub): Promise<GatewayLiveness> {
  const membership = new Membership(context, hub);
  await membership.join();
  return membership;
}

class Membership implements GatewayLiveness {
  readonly #context: Context;
  readonly #hub: Hub;
  /**
   * Time until which live updates were complete; undefined while they are. Unix milliseconds of the
   * database, as ids are.
   */
  #completeUntil: number | undefined;
  /** The cluster's rows of this gateway are missing or wrong. */
  #mustRejoin = false;
  #mismatches = 0;
  /** Counts losses: a loss during a recovery needs another recovery. */
  #losses = 0;
  #heartbeatAt = performance.now();
  /**
   * Watermarks stay below posts of this time. A second loss within a minute keeps the first limit.
   */
  #watermarkLimit: number | undefined;
  #limitTimer: NodeJS.Timeout | undefined;
  #endHeartbeats: (() => void) | undefined;
  #recovering: Promise<void> | undefined;
  #beating: Promise<void> | undefined;
  #stopped = false;

  constructor(context: Context, hub: Hub) {
    this.#context = context;
    this.#hub = hub;
    this.#completeUntil = context.clock.now();
  }

  get caughtUp(): boolean {
    return this.#completeUntil === undefined && performance.now() - this.#heartbeatAt < SILENT_MS;
  }

  async join(): Promise<void> {
    const { db, url } = this.#context;
    this.#hub.onConsumed = (consumed) => {
      if (!consumed) this.#lost('the queue is not consumed');
      else if (this.#completeUntil !== undefined) this.#recoverOnce();
    };
    await registerGateway(db, { id: this.#hub.gatewayId, url });
    if (this.#hub.consumed) await this.#recover();
    this.#endHeartbeats = everyTick(HEARTBEAT_MS, () => this.#beatOnce());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#endHeartbeats?.();
    clearTimeout(this.#limitTimer);
    await this.#beating;
    await this.#recovering;
    await unregisterGateway(this.#context.db, this.#hub.gatewayId);
  }

  #lost(why: string, sinceMs = HEARTBEAT_MS): void {
    this.#losses += 1;
    if (this.#completeUntil !== undefined) return;
    this.#completeUntil = this.#context.clock.now() - sinceMs;
    clearTimeout(this.#limitTimer);
    this.#watermarkLimit = Math.min(this.#watermarkLimit ?? this.#completeUntil, this.#completeUntil);
    this.#hub.limitWatermarks(this.#watermarkLimit);
    const gateway = this.#hub.gatewayId;
    this.#context.log.warn({ gateway, why }, 'live updates are lost: sockets will be caught up');
  }

  #recoverOnce(): void {
    this.#recovering ??= this.#recover()
      .catch((error) => this.#context.log.warn({ reason: messageOf(error) }, 'not caught up yet'))
      .finally(() => {
        this.#recovering = undefined;
      });
  }

  /** Repeats until no loss has happened during a recovery. */
  async #recover(): Promise<void> {
    const hub = this.#hub;
    while (!this.#stopped && hub.consumed) {
      const losses = this.#losses;
      if (this.#mustRejoin) await this.#rejoin();
      await hub.announce();
      await hub.catchUp();
      if (this.#losses !== losses) continue;
      this.#completeUntil = undefined;
      this.#limitTimer = setTimeout(() => {
        this.#watermarkLimit = undefined;
        hub.limitWatermarks(undefined);
      }, DELAYED_POSTS_MS);
      this.#context.log.info({ gateway: hub.gatewayId, sockets: hub.sockets }, 'live updates are complete');
      return;
    }
  }

  async #rejoin(): Promise<void> {
    const { db, url, log } = this.#context;
    const before = this.#hub.gatewayId;
    await this.#hub.move(randomUUID());
    await registerGateway(db, { id: this.#hub.gatewayId, url });
    this.#mustRejoin = false;
    await unregisterGateway(db, before);
    log.warn({ before, gateway: this.#hub.gatewayId }, 'registered under another id');
  }

  #beatOnce(): void {
    this.#beating ??= this.#beat()
      .catch((error) => this.#context.log.warn({ reason: messageOf(error) }, 'no heartbeat'))
      .finally(() => {
        this.#beating = undefined;
      });
  }

  async #beat(): Promise<void> {
    const hub = this.#hub;
    const announced = hub.announced;
    const { db, clock } = this.#context;
    const beat = await clock.measure(
      () => gatewayHeartbeat(db, hub.gatewayId),
      (answer) => answer?.now,
    );
    const counted = beat?.online;
    const silentMs = performance.now() - this.#heartbeatAt;
    this.#heartbeatAt = performance.now();
    if (silentMs > SILENT_MS) this.#lost(`no heartbeat for ${Math.round(silentMs / 1000)} s`, silentMs);
    if (this.#recovering) return;
    const isComparable = counted !== undefined && announced !== undefined && hub.announced === announced;
    this.#mismatches = isComparable && counted !== announced ? this.#mismatches + 1 : 0;
    if (counted === undefined || this.#mismatches > MAX_MISMATCHES) {
      this.#mismatches = 0;
      this.#mustRejoin = true;
      this.#lost(counted === undefined ? 'declared dead' : 'presence');
    }
    if (this.#completeUntil !== undefined) this.#recoverOnce();
    else await hub.retryAnnouncing();
  }
}
