import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { IdMint, type NodeLease, timeOfId } from '../model/ids.ts';
import type { Metrics } from '../telemetry/metrics.ts';

const LEASE_MS = 30_000;
const WAIT_MS = 5_000;
const FAILURES = ['renewal', 'lost', 'exhausted'] as const;

/**
 * Takes the free node number that has been idle for longest. In: owner, lease in ms, the caller's clock in unix
 * ms. Atomic: one statement, one row locked. `reserved_until_ms` covers clocks that disagree: whoever gets the
 * number next starts above everything its last owner was allowed to mint.
 */
const TAKE = `
  update node_leases set owner = $1, expires_at = clock_timestamp() + $2 * interval '1 ms',
         reserved_until_ms = greatest(reserved_until_ms, $3::bigint) + $2
  where node = (select node from node_leases
                where expires_at < clock_timestamp() and reserved_until_ms < $3::bigint + 1000
                order by reserved_until_ms limit 1 for update skip locked)
  returning node, reserved_until_ms - $2 as from_ms`;

const RENEW = `
  update node_leases set expires_at = clock_timestamp() + $3 * interval '1 ms',
         reserved_until_ms = greatest(reserved_until_ms, $4::bigint + $3)
  where node = $1 and owner = $2 returning reserved_until_ms`;

const RELEASE = `
  update node_leases set owner = null, expires_at = '-infinity', reserved_until_ms = $3
  where node = $1 and owner = $2`;

/** Ids for this process, minted under a leased node number that is renewed until it is released. */
export interface IdSource {
  next(): Promise<number>;
  /** `count` rising ids. Waits where that is more than the clock allows (64,000 a second). */
  take(count: number): Promise<number[]>;
  release(): Promise<void>;
}

/** Leases nothing until the first id is asked for. Throws NODE_NUMBERS_EXHAUSTED after 5 s without a free number. */
export function openIdSource(db: Database, metrics?: Metrics): IdSource {
  const failed = (reason: (typeof FAILURES)[number], by = 1) =>
    metrics?.count('feedctl_node_lease_failures_total', by, { reason });
  // There from the start: whoever watches sees the first failure only as a growth of something.
  for (const reason of FAILURES) failed(reason, 0);
  const owner = randomUUID();
  let current: Promise<{ mint: IdMint; node: number; fromMs: number }> | undefined;
  let untilMs = 0;
  let renewal: NodeJS.Timeout | undefined;
  let lastId = 0;
  let released = false;

  const acquire = async () => {
    for (const deadline = Date.now() + WAIT_MS; ; await sleep(100)) {
      const now = Date.now();
      const taken = await db.query<{ node: number; from_ms: number }>(TAKE, [owner, LEASE_MS, now]);
      const row = taken.rows[0];
      if (row) {
        untilMs = row.from_ms + LEASE_MS;
        const lease: NodeLease = { node: row.node, fromMs: row.from_ms + 1, untilMs: () => untilMs };
        renewal = setInterval(() => void renew(row.node), LEASE_MS / 3);
        renewal.unref();
        return { mint: new IdMint(lease), node: row.node, fromMs: row.from_ms };
      }
      if (Date.now() > deadline) {
        failed('exhausted');
        throw new FeedctlError('NODE_NUMBERS_EXHAUSTED', 'every node number is leased: no id can be minted');
      }
    }
  };

  const renew = async (node: number) => {
    try {
      const renewed = await db.query<{ reserved_until_ms: number }>(RENEW, [
        node,
        owner,
        LEASE_MS,
        Date.now(),
      ]);
      const row = renewed.rows[0];
      if (row) {
        untilMs = row.reserved_until_ms;
      } else {
        failed('lost'); // Another process has the number by now.
        drop();
      }
    } catch {
      // The lease runs on to its end; nothing is minted past it.
      failed('renewal');
    }
  };

  const drop = () => {
    clearInterval(renewal);
    current = undefined;
  };

  const take = async (count: number): Promise<number[]> => {
    const ids: number[] = [];
    while (ids.length < count) {
      if (released) throw new Error('this source of ids has been released');
      current ??= acquire().catch((error) => {
        current = undefined;
        throw error;
      });
      const { mint, node } = await current;
      const id = mint.tryNext();
      if (id !== undefined) {
        ids.push(id);
        lastId = id;
      } else if (Date.now() > untilMs) {
        drop();
      } else {
        if (mint.aheadMs === 0) await renew(node);
        await sleep(Math.max(1, mint.aheadMs - 10));
      }
    }
    return ids;
  };

  return {
    take,
    next: async () => (await take(1))[0]!,
    release: async () => {
      released = true;
      if (!current) return;
      const lease = await current.catch(() => undefined);
      clearInterval(renewal);
      if (!lease) return;
      // Not below where this lease began: its owner may have minted nothing, and an earlier one up to there.
      const mintedUntil = Math.max(lease.fromMs, timeOfId(lastId));
      await db.query(RELEASE, [lease.node, owner, mintedUntil]).catch(() => {});
    },
  };
}
