import type { Database } from '../database/database.ts';
import { type FeedPartitionState, feedPartitionState } from '../database/feedPartitions.ts';
import { sharedUrls, sharedUrlText } from '../fleet/gateways.ts';
import { formatBytes } from '../model/bytes.ts';
import type { Check } from '../model/check.ts';
import { ERRORS } from '../model/errors.ts';
import { firstFull, isFullSoon, spaceText } from '../model/feedStorage.ts';
import { laneTroubles } from '../model/lanes.ts';
import { mismatchText } from '../model/sample.ts';
import { DatabaseClock, describeOffset, MAX_OFFSET_MS } from '../store/databaseClock.ts';
import { listRoleChecks, type RoleChecks } from '../store/processes.ts';
import { type ClusterParts, type ClusterStatus, clusterStatus } from './status.ts';

/** A fifth of the difference at which roles are no longer ready. */
const LARGE_OFFSET_MS = 1_000;
/** A worker dispatches an event within a second. */
const OLD_EVENT_SECONDS = 30;
/** A gateway or a worker needs about this many sessions. */
const FEW_SESSIONS = 20;
/** Of 63 node numbers. */
const MANY_NODES = 50;

/** Workers look every 15 to 30 s. */
const OLD_LOOK_SECONDS = 300;
/** A cached feed that was dropped is no news after this time. */
const HEALED_WARNING_MS = 3_600_000;

/** Numbers of the database that the checks need. */
interface Measured {
  readonly sessionsLeft: number;
  readonly unpartitioned: number;
  readonly oldestEventSeconds: number;
  readonly splitStates: number;
  readonly halfDone: number;
  readonly redispatching: boolean;
  readonly nodes: number;
}

interface Findings extends Measured {
  readonly partitions: FeedPartitionState;
  readonly nowMs: number;
  readonly offsetMs: number;
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

const hours = (ms: number): string => `${Math.round(ms / 3_600_000)} h`;

const NOT_MEASURED = 'not measured yet: a running worker does it';

function partitionsText({ partitions, status: { storage }, nowMs }: Findings): string {
  const { count, rows, bytes, newestRows, oldestMs, endMs } = partitions;
  return [
    `${count} of about ${rows} feed rows, ${formatBytes(bytes)}`,
    `about ${newestRows} rows in the newest`,
    ...(oldestMs === undefined ? [] : [`the oldest began ${hours(nowMs - oldestMs)} ago`]),
    ...(endMs <= nowMs ? [`none for the last ${hours(nowMs - endMs)}`] : []),
    ...(storage?.walBytesPerRow ? [`${formatBytes(storage.walBytesPerRow)} of WAL a row`] : []),
  ].join('; ');
}

const CHECKS: readonly ClusterCheck[] = [
  {
    name: 'clock',
    severity: 'warning',
    isBad: ({ offsetMs }) => Math.abs(offsetMs) > LARGE_OFFSET_MS,
    detail: ({ offsetMs }) => describeOffset(offsetMs),
    fix: `Set the wrong clock right. Beyond ${MAX_OFFSET_MS / 1000} s a role on this machine is not ready.`,
  },
  {
    name: 'gateway URLs',
    severity: 'warning',
    isBad: ({ status }) => sharedUrls(status.gateways).length > 0,
    detail: ({ status }) => sharedUrls(status.gateways).map(sharedUrlText).join('; ') || 'none is shared',
    fix: ERRORS.GATEWAY_OTHER.fix,
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
    name: 'feed partitions',
    severity: 'warning',
    isBad: ({ partitions, nowMs }) => partitions.endMs <= nowMs,
    detail: partitionsText,
    fix: 'Run `feedctl migrate`; a running worker creates partitions in advance.',
  },
  {
    name: 'database disk',
    severity: 'warning',
    isBad: ({ status: { storage } }) => storage !== null && isFullSoon(firstFull(storage)),
    detail: ({ status: { storage } }) => (storage ? spaceText(storage) : NOT_MEASURED),
    fix: 'Make the disk larger, or remove old feed rows with `feedctl feed trim --all --before 90d`.',
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
  const measured = await measure(cluster.db);
  const clock = new DatabaseClock();
  await clock.read(cluster.db);
  const status = await clusterStatus(cluster);
  const deadLetters = status.queues.reduce((sum, queue) => sum + queue.deadLetters, 0);
  const nowMs = clock.now();
  const partitions = await feedPartitionState(cluster.db, nowMs);
  const found = { ...measured, partitions, nowMs, offsetMs: clock.offsetMs, status, deadLetters };
  return [
    ...roleChecks(status),
    ...roleViews(await listRoleChecks(cluster.db)),
    ...CHECKS.map((row) => resultOf(row, found)),
    ...laneChecks(status),
    ...samplingChecks(status, nowMs),
  ];
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

/** What the roles themselves find. They may reach other servers than the shell of this command. */
function roleViews(roles: readonly RoleChecks[]): Check[] {
  const found = roles.flatMap(({ kind, id, at, checks }) =>
    (checks ?? []).map(({ name, status, detail, fix }) => ({
      name: `${kind} ${id.slice(0, 8)}`,
      status,
      detail: `${name} at ${at}: ${detail}`,
      ...(fix !== undefined && { fix }),
    })),
  );
  const reporting = roles.filter(({ checks }) => checks !== null).length;
  if (found.length > 0 || reporting === 0) return found;
  return [{ name: 'roles', status: 'ok', detail: `${reporting} can use everything that they need` }];
}

function laneChecks({ lanes }: ClusterStatus): Check[] {
  return laneTroubles(lanes).map(({ lane, kind, detail, fix }) => ({
    name: `${lane} lane`,
    status: 'warning',
    detail: `${kind} ${detail}`,
    fix: `Run \`${fix}\` when the reason no longer applies: messages of the lane wait until then.`,
  }));
}

/** One check of rows and one of caches, each with the commands for the first feed that it names. */
function samplingChecks({ sampling, workers }: ClusterStatus, nowMs: number): Check[] {
  const { lastAt, checked, checkedCached, waiting, differing, healed } = sampling;
  const [first] = differing;
  const rows = { name: 'sampled feeds', status: 'ok' } as const;
  const ageSeconds = lastAt === null ? undefined : Math.max(0, (nowMs - Date.parse(lastAt)) / 1_000);
  const [dropped] = healed.filter(({ at }) => nowMs - Date.parse(at) < HEALED_WARNING_MS);
  const caches = { name: 'sampled caches', status: 'ok', detail: `${checkedCached} compared` } as const;
  return [
    first
      ? {
          ...rows,
          status: 'warning',
          detail: `${differing.length} of ${checked} differ: ${mismatchText(first)}`,
          fix:
            `Run \`feedctl feed explain ${first.userId} ${first.postId}\`, ` +
            `then \`feedctl feed verify ${first.userId} --repair\`.`,
        }
      : ageSeconds !== undefined && ageSeconds > OLD_LOOK_SECONDS && workers.some(({ ready }) => ready)
        ? {
            ...rows,
            status: 'warning',
            detail: `none compared for ${Math.round(ageSeconds)} s`,
            fix: 'Read the logs of the workers: `task failed` of the task `sample of feeds` has the reason.',
          }
        : {
            ...rows,
            detail:
              ageSeconds === undefined
                ? 'none compared yet'
                : `${checked} compared, the last ${Math.round(ageSeconds)} s ago` +
                  (waiting > 0 ? `; ${waiting} wait for messages in flight` : ''),
          },
    dropped
      ? {
          ...caches,
          status: 'warning',
          detail: mismatchText(dropped),
          fix: `Run \`feedctl feed verify ${dropped.userId}\`, and see the runbook of FeedctlFeedsDiffer.`,
        }
      : caches,
  ];
}

async function measure(db: Database): Promise<Measured> {
  const { rows } = await db.query<Measured>(
    `select current_setting('max_connections')::integer
              - (select count(*)::integer from pg_stat_activity) as "sessionsLeft",
            (select count(*)::integer from events_default) as unpartitioned,
            coalesce((select extract(epoch from clock_timestamp() - min(occurred_at))::float8
                      from events where dispatched_at is null), 0) as "oldestEventSeconds",
            (select count(*)::integer from users u left join celebrities c on c.user_id = u.id
             where u.push_state <> coalesce(c.state, 'push')) as "splitStates",
            (select count(*)::integer from celebrities where state = 'both') as "halfDone",
            exists (select 1 from settings, cluster_identity where name = 'feeds.complete'
                    and value ->> 'lineage' is distinct from lineage) as redispatching,
            (select count(*)::integer from node_leases where expires_at > clock_timestamp()) as nodes`,
  );
  return rows[0]!;
}
