import { setTimeout as sleep } from 'node:timers/promises';
import { type Barrier, type Bus, STAGES } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import type { Identity } from '../identity/identity.ts';
import { isFeedctlError, messageOf } from '../model/errors.ts';
import { firstIdAt, IDS_PER_MS } from '../model/ids.ts';
import {
  beginCompleteness,
  type Completeness,
  firstUnfinished,
  hasEventsFrom,
  readCompleteness,
  saveCompleteness,
} from '../store/completeness.ts';
import type { Clock } from '../store/databaseClock.ts';
import type { Log } from '../telemetry/log.ts';
import { settleWithin } from '../util/deadline.ts';
import { poll } from '../util/poll.ts';
import { untilTick } from '../util/ticks.ts';
import { redispatch } from './redispatch.ts';

const POLL_MS = 5_000;
/** Age of the known state from which a new one is looked for. */
const EVERY_MS = 60_000;
/** Time in which a barrier of short queues passes. Otherwise the next turn looks again. */
const PASS_TIMEOUT_MS = 2_000;
const PASS_POLL_MS = 100;
/** An event commits at most this long after its id was minted. */
const MARGIN_MS = 300_000;
/** Ids may run ahead of the clock. */
const AHEAD_MS = 1_000;
/** Shutdown waits at most this long: another worker continues, and a barrier waits while a queue is full. */
const SHUTDOWN_TIMEOUT_MS = 2_000;

export interface CompletenessContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly identity: Pick<Identity, 'lineage' | 'refresh' | 'watch'>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Keeps feeds complete when messages or their results are lost: by a failover or a restore that loses
 * commits, and by a broker that was replaced by an empty one. The database knows since when it is not
 * certain that every dispatched event has done its work. After a loss the events since then are dispatched
 * again.
 *
 * Every worker looks; locks let one of them work. If that worker is killed, another one continues. The queue
 * in the database needs none of it, except after a broker: its messages are lost only together with their
 * acks and rows.
 * Returns a function that stops it.
 */
export function keepComplete(context: CompletenessContext, everyMs: number = POLL_MS): () => Promise<void> {
  const { bus, db, identity, log } = context;
  const stop = new AbortController();
  const { signal } = stop;
  let wake = () => {};
  const unwatch = identity.watch(() => wake());
  const working = (async () => {
    while (!signal.aborted) {
      try {
        // A broker may have been given up for the queue in the database.
        if (!bus.lineage && (await readCompleteness(db))?.lineage !== null) return;
        await turn(context, signal);
      } catch (error) {
        if (!signal.aborted && !isFeedctlError(error, 'OPERATION_RUNNING'))
          log.warn({ reason: messageOf(error) }, 'completeness of feeds not known yet');
      }
      await Promise.race([
        sleep(untilTick(everyMs), undefined, { signal }).catch(() => {}),
        new Promise<void>((done) => {
          wake = done;
        }),
      ]);
    }
  })();
  return async () => {
    stop.abort();
    unwatch();
    await settleWithin(SHUTDOWN_TIMEOUT_MS, working);
  };
}

async function turn(context: CompletenessContext, signal: AbortSignal): Promise<void> {
  const { db, identity, clock } = context;
  let state = await readCompleteness(db);
  if (!state) return beginCompleteness(db, identity.lineage);
  if (state.lineage !== identity.lineage) {
    // Another process may have learned of a new lineage first.
    await identity.refresh();
    state = (await readCompleteness(db)) ?? state;
  }
  if (state.lineage !== identity.lineage) await alone(db, () => dispatchAgain(context, signal));
  else if (isDue(state, clock)) await alone(db, () => advance(context, signal));
}

/** Returns the id of the first event that may not have done its work. */
const firstUncertain = ({ from }: Completeness): number => Math.max(0, from - MARGIN_MS * IDS_PER_MS);

/** Returns whether a barrier passes the stages, or another one has to be placed. */
const isDue = ({ next, at }: Completeness, clock: Clock): boolean =>
  next !== undefined || clock.now() - Date.parse(at) >= EVERY_MS;

/** Dispatches the events that may not have done their work. Feeds get the present state, sockets nothing. */
async function dispatchAgain(
  { db, bus, identity, clock, log }: CompletenessContext,
  signal: AbortSignal,
): Promise<void> {
  const { lineage } = identity;
  // Another worker may have finished it since the caller read the state.
  const state = await readCompleteness(db);
  if (!state || state.lineage === lineage) return;
  const from = firstUncertain(state);
  const why = state.lineage === null ? `messages lost ${state.at}` : `lineage ${lineage}`;
  log.warn(
    { lineage, before: state.lineage, fromId: from },
    'messages may be lost: events are dispatched again',
  );
  const range = { from, to: firstIdAt(clock.now() + AHEAD_MS) };
  try {
    const { events, nextId } = await redispatch({ db, bus }, why, range, { dryRun: false, signal });
    if (nextId !== null) return;
    log.info({ lineage, events }, 'events dispatched again');
  } catch (error) {
    if (!isFeedctlError(error, 'OPERATION_CANCELLED')) throw error;
    log.warn({ lineage }, 'an operator has cancelled that events are dispatched again');
  }
  await saveCompleteness(db, state, { lineage, from: state.from });
}

/** Looks whether what was dispatched before has done its work: a barrier passes one stage after the other. */
async function advance(
  { db, bus, identity, clock }: CompletenessContext,
  signal: AbortSignal,
): Promise<void> {
  const { lineage } = identity;
  let state = await readCompleteness(db);
  if (!state || state.lineage !== lineage || !isDue(state, clock)) return;
  const save = async (next: Omit<Completeness, 'at'>): Promise<Completeness | undefined> =>
    (await saveCompleteness(db, state!, next)) ? readCompleteness(db) : undefined;
  if (!state.next) {
    const from = await firstUnfinished(db, firstIdAt(clock.now() - AHEAD_MS));
    if (!(await hasEventsFrom(db, firstUncertain(state)))) {
      // Nothing was published for an event since.
      await save({ lineage, from });
      return;
    }
    const barrier = await bus.placeBarrier(STAGES[0]!);
    state = await save({ lineage, from: state.from, next: { from, step: 0, barrier } });
  }
  while (state?.next) {
    const { from, step, barrier } = state.next;
    const options = { everyMs: PASS_POLL_MS, timeoutMs: PASS_TIMEOUT_MS, signal };
    if (!(await poll(() => bus.hasPassed(barrier as Barrier), options))) return;
    // A barrier of a history that has ended counts as passed.
    if (identity.lineage !== lineage) return;
    const following = STAGES[step + 1];
    state = await save(
      following
        ? {
            lineage,
            from: state.from,
            next: { from, step: step + 1, barrier: await bus.placeBarrier(following) },
          }
        : { lineage, from },
    );
  }
}

/** Runs `work` unless another worker does. */
async function alone(db: Database, work: () => Promise<void>): Promise<void> {
  const lock = `hashtextextended('feedctl completeness', 0)`;
  await db.withSession(
    async (session) => {
      const { rows } = await session.query<{ mine: boolean }>(`select pg_try_advisory_lock(${lock}) as mine`);
      if (!rows[0]!.mine) return;
      try {
        await work();
      } finally {
        await session.query(`select pg_advisory_unlock(${lock})`).catch(() => {});
      }
    },
    { deadlineMs: 0 },
  );
}
