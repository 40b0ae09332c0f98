import type { Database } from '../database/database.ts';
import type { Check } from '../model/check.ts';
import { laneTroubles } from '../model/lanes.ts';
import { type ClusterParts, type ClusterStatus, clusterStatus } from './status.ts';

/** Clocks that differ by more mint ids in the wrong order. */
const CLOCK_SKEW_MS = 1_000;
/** A worker dispatches an event within a second. */
const OLD_EVENT_SECONDS = 30;
/** A gateway or a worker needs about this many sessions. */
const FEW_SESSIONS = 20;
/** Of 63 node numbers. */
const MANY_NODES = 50;

/** Numbers of the database that the checks need. */
interface Measured {
  readonly nowMs: number;
  readonly sessionsLeft: number;
  readonly unpartitioned: number;
  readonly oldestEventSeconds: number;
  readonly splitStates: number;
  readonly halfDone: number;
  readonly redispatching: boolean;
  readonly nodes: number;
}

interface Findings extends Measured {
  readonly skewMs: number;
  readonly status: ClusterStatus;
  readonly deadLetters: number;
}

/** One check of the running cluster. `isBad` decides between `ok` and `severity`. */
interface ClusterCheck {
  readonly name: string;
  readonly severity: 'warning' | 'fault';
  readonly isBad: (found: Findings) => boolean;
  readonly detail: (found: Findings) => string;
  readonly fix: string;
}

const CHECKS: readonly ClusterCheck[] = [
  {
    name: 'clock',
    severity: 'warning',
    isBad: ({ skewMs }) => skewMs > CLOCK_SKEW_MS,
    detail: ({ skewMs }) => `${Math.round(skewMs)} ms from the database's`,
    fix: 'Synchronise the clocks: ids are ordered by time.',
  },
  {
    name: 'sessions',
    severity: 'warning',
    isBad: ({ sessionsLeft }) => sessionsLeft < FEW_SESSIONS,
    detail: ({ sessionsLeft }) => `${sessionsLeft} left at the database`,
    fix: 'Raise max_connections, or run fewer processes.',
  },
  {
    name: 'node numbers',
    severity: 'warning',
    isBad: ({ nodes }) => nodes > MANY_NODES,
    detail: ({ nodes }) => `${nodes} of 63 leased`,
    fix: 'Run fewer processes that create posts, or wait until leases expire.',
  },
  {
    name: 'outbox',
    severity: 'fault',
    isBad: ({ oldestEventSeconds }) => oldestEventSeconds > OLD_EVENT_SECONDS,
    detail: ({ oldestEventSeconds }) => `oldest event not dispatched: ${Math.round(oldestEventSeconds)} s`,
    fix: 'A worker dispatches events: check that one runs, and read its log.',
  },
  {
    name: 'event partitions',
    severity: 'warning',
    isBad: ({ unpartitioned }) => unpartitioned > 0,
    detail: ({ unpartitioned }) => `${unpartitioned} events outside a weekly partition`,
    fix: 'Run `feedctl migrate`; a running worker creates partitions in advance.',
  },
  {
    name: 'dead letters',
    severity: 'warning',
    isBad: ({ deadLetters }) => deadLetters > 0,
    detail: ({ deadLetters }) => `${deadLetters}`,
    fix: 'Read the reasons in bus.dead_letters, then run `feedctl feed verify --all --repair`.',
  },
  {
    name: 'push states',
    severity: 'fault',
    isBad: ({ splitStates }) => splitStates > 0,
    detail: ({ splitStates }) => `${splitStates} authors differ between users and celebrities`,
    fix: 'Mark or unmark those authors again.',
  },
  {
    name: 'celebrities',
    severity: 'warning',
    isBad: ({ halfDone }) => halfDone > 0,
    detail: ({ halfDone }) => `${halfDone} on the way between push and pull`,
    fix: 'A change was cut off: run `feedctl celebrity mark` or `unmark` again.',
  },
  {
    name: 'lost messages',
    severity: 'warning',
    isBad: ({ redispatching }) => redispatching,
    detail: ({ redispatching }) => (redispatching ? 'events are to be dispatched again' : 'none known'),
    fix: 'A worker does it by itself: see `feedctl operation list`. Feeds may lack posts until then.',
  },
];

/** Checks the roles, the lanes and everything of `CHECKS` with two queries and one status. */
export async function checkCluster(cluster: ClusterParts): Promise<Check[]> {
  const askedAt = Date.now();
  const measured = await measure(cluster.db);
  const skewMs = Math.abs(measured.nowMs - (askedAt + Date.now()) / 2);
  const status = await clusterStatus(cluster);
  const deadLetters = status.queues.reduce((sum, queue) => sum + queue.deadLetters, 0);
  const found = { ...measured, skewMs, status, deadLetters };
  return [...roleChecks(status), ...CHECKS.map((row) => resultOf(row, found)), ...laneChecks(status)];
}

function resultOf({ name, severity, isBad, detail, fix }: ClusterCheck, found: Findings): Check {
  return isBad(found)
    ? { name, status: severity, detail: detail(found), fix }
    : { name, status: 'ok', detail: detail(found) };
}

function roleChecks({ components }: ClusterStatus): Check[] {
  return components
    .filter(({ name }) => name === 'workers' || name === 'gateways')
    .map(({ name, kind, ready, detail }) => ({
      name,
      status: ready ? 'ok' : 'fault',
      detail,
      ...(!ready && { fix: `Start one with \`feedctl up\` or \`feedctl ${kind} start\`.` }),
    }));
}

function laneChecks({ lanes }: ClusterStatus): Check[] {
  return laneTroubles(lanes).map(({ lane, kind, detail, fix }) => ({
    name: `${lane} lane`,
    status: 'warning',
    detail: `${kind} ${detail}`,
    fix: `Run \`${fix}\` when the reason no longer applies: messages of the lane wait until then.`,
  }));
}

async function measure(db: Database): Promise<Measured> {
  const { rows } = await db.query<Measured>(
    `select extract(epoch from clock_timestamp())::float8 * 1000 as "nowMs",
            current_setting('max_connections')::integer
              - (select count(*)::integer from pg_stat_activity) as "sessionsLeft",
            (select count(*)::integer from events_default) as unpartitioned,
            coalesce((select extract(epoch from clock_timestamp() - min(occurred_at))::float8
                      from events where dispatched_at is null), 0) as "oldestEventSeconds",
            (select count(*)::integer from users u left join celebrities c on c.user_id = u.id
             where u.push_state <> coalesce(c.state, 'push')) as "splitStates",
            (select count(*)::integer from celebrities where state = 'both') as "halfDone",
            exists (select from settings, cluster_identity where name = 'feeds.complete'
                    and value ->> 'lineage' is distinct from lineage) as redispatching,
            (select count(*)::integer from node_leases where expires_at > clock_timestamp()) as nodes`,
  );
  return rows[0]!;
}
