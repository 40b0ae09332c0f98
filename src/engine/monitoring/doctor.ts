import { access, constants, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Bus } from '../bus/bus.ts';
import type { FeedCache } from '../cache/cache.ts';
import { openBus, openSharedCache, resolveDatabaseUrl } from '../cluster/cluster.ts';
import { readClusterState } from '../config/clusterState.ts';
import type { Config, SettingName, Source } from '../config/config.ts';
import { Database } from '../database/database.ts';
import { checkSchema } from '../database/migrate.ts';
import { withoutPassword } from '../database/url.ts';
import type { Check } from '../model/check.ts';
import { ERRORS, isFeedctlError, messageOf } from '../model/errors.ts';
import { laneTroubles } from '../model/lanes.ts';
import { Resources } from '../resilience/resources.ts';
import { shardTroubles } from '../shards/list.ts';
import { citusNodes } from '../shards/nodesSql.ts';
import { silentLog } from '../telemetry/log.ts';
import { type ClusterParts, clusterStatus } from './status.ts';

export interface DoctorReport {
  readonly context: string;
  readonly ok: boolean;
  readonly settings: readonly { name: string; value: string; source: Source }[];
  readonly checks: readonly Check[];
}

const LOW_DISK_BYTES = 2 * 2 ** 30;
const CLOCK_SKEW_MS = 1_000;
const OLD_EVENT_SECONDS = 30;
const SESSIONS_LEFT = 20;

const check = (name: string, status: Check['status'], detail: string, fix?: string): Check => ({
  name,
  status,
  detail,
  ...(status !== 'ok' && fix !== undefined && { fix }),
});

/** Looks at everything the cluster needs, and says of each fault how to mend it. Never throws for what it finds. */
export async function diagnose(config: Config): Promise<DoctorReport> {
  const settings = (Object.keys(config.sources) as SettingName[]).map((name) => ({
    name,
    value: config[name] === undefined ? '(none)' : withoutPassword(String(config[name])),
    source: config.sources[name],
  }));
  const checks: Check[] = [check('node', 'ok', process.version)];
  if (config.embedded) checks.push(...(await checkDataDir(config.dataDir)));
  /** What keeps a part from being looked at is a fault of its own; the other parts are looked at all the same. */
  const part = async (name: string, look: () => Promise<readonly Check[]>): Promise<void> => {
    try {
      checks.push(...(await look()));
    } catch (error) {
      const fix = isFeedctlError(error) ? error.suggestions[0] : undefined;
      checks.push(check(isFeedctlError(error) ? error.code : name, 'fault', messageOf(error), fix));
    }
  };
  const resources = new Resources();
  let url: string | undefined;
  let db: Database | undefined;
  let bus: Bus | undefined;
  let sharedCache: FeedCache | undefined;
  await part('database', async () => {
    url = await resolveDatabaseUrl(config);
    const opened = new Database(url);
    resources.add('database', () => opened.close());
    await opened.ping();
    checks.push(check('database', 'ok', withoutPassword(url)));
    await checkSchema(opened, config.store);
    db = opened;
    return [check('schema', 'ok', 'up to date')];
  });
  // What the broker and the cache are to hold is written in the database.
  if (db && url) {
    const [database, databaseUrl] = [db, url];
    await part('broker', async () => {
      const opened = await openBus(config, databaseUrl, silentLog);
      resources.add('bus', () => opened.close());
      bus = opened;
      return (await opened.check?.()) ?? [];
    });
    await part('cache', async () => {
      sharedCache = await openSharedCache(config, database, silentLog);
      resources.add('cache', () => sharedCache?.close());
      return checkCache(sharedCache);
    });
    await part('citus', () => checkCitus(database));
  }
  if (db && bus) {
    const parts = { config, db, bus, sharedCache };
    await part('cluster', () => checkCluster(parts));
  }
  await resources.release();
  return { context: config.context, ok: checks.every((one) => one.status !== 'fault'), settings, checks };
}

/** Nothing on plain PostgreSQL. That the tables are distributed and colocated is part of the schema's check. */
async function checkCitus(db: Database): Promise<Check[]> {
  const { citusVersion, distributed, shards } = await db.sharding();
  if (!distributed) return [];
  const nodes = await citusNodes(db);
  const silent = nodes.filter((node) => !node.active || node.walLevel === null).map((node) => node.name);
  const answering = nodes.filter((node) => node.walLevel !== null);
  const physical = answering.filter((node) => node.walLevel !== 'logical').map((node) => node.name);
  const unprepared = answering.filter((node) => node.preparedTransactions === 0).map((node) => node.name);
  const fewest = Math.min(...answering.map((node) => node.connections!));
  const coordinator = nodes.find((node) => node.coordinator);
  const listed = (names: string[]) => names.join(', ');
  return [
    check('citus', 'ok', `${citusVersion}, ${shards.length} shards, every table by its key, colocated`),
    check(
      'citus nodes',
      silent.length > 0 ? 'fault' : 'ok',
      silent.length > 0 ? `no answer, or not active: ${listed(silent)}` : `${nodes.length} active`,
      'Start them; `select citus_activate_node(host, port)` for one that was disabled.',
    ),
    check(
      'citus coordinator',
      coordinator ? 'ok' : 'warning',
      coordinator ? coordinator.name : 'the nodes do not know it',
      'Run `select citus_set_coordinator_host(host, port)`: shards cannot be rebalanced without.',
    ),
    check(
      'citus wal_level',
      physical.length > 0 ? 'warning' : 'ok',
      physical.length > 0 ? `not logical on ${listed(physical)}` : 'logical',
      'Set wal_level = logical and restart: shards cannot move while they are written to.',
    ),
    check(
      'citus transactions',
      unprepared.length > 0 ? 'fault' : 'ok',
      unprepared.length > 0 ? `max_prepared_transactions is 0 on ${listed(unprepared)}` : 'two-phase commit',
      'Set max_prepared_transactions to max_connections or more, and restart.',
    ),
    check(
      'citus sessions',
      fewest < (coordinator?.connections ?? 0) ? 'warning' : 'ok',
      `max_connections: ${coordinator?.connections ?? '?'} at the coordinator, ${fewest} at the smallest node`,
      'Give every node as many connections as the coordinator: each session there opens one at every node.',
    ),
    ...(await shardTroubles(db)).map(({ kind, detail, fix }) =>
      check(`citus ${kind}`, 'warning', detail, fix),
    ),
  ];
}

async function checkDataDir(dataDir: string): Promise<Check[]> {
  const running = await readClusterState(dataDir);
  const checks = [
    check(
      'cluster',
      running ? 'ok' : 'fault',
      running ? `runs in process ${running.pid}, version ${running.version}` : `none runs in ${dataDir}`,
      'Start one with `feedctl up`.',
    ),
  ];
  for (let path = dataDir; ; path = dirname(path)) {
    try {
      await access(path, constants.W_OK);
      const { bavail, bsize } = await statfs(path);
      const free = bavail * bsize;
      checks.push(check('data directory', 'ok', `${path} can be written`));
      checks.push(
        check(
          'disk',
          free > LOW_DISK_BYTES ? 'ok' : 'warning',
          `${(free / 2 ** 30).toFixed(1)} GiB free`,
          'Make room, or move the data directory.',
        ),
      );
      return checks;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && path !== dirname(path)) continue;
      checks.push(
        check(
          'data directory',
          'fault',
          messageOf(error),
          'Pick a directory that can be written with --data-dir.',
        ),
      );
      return checks;
    }
  }
}

async function checkCluster(cluster: ClusterParts): Promise<Check[]> {
  const { db } = cluster;
  const askedAt = Date.now();
  const { rows } = await db.query<Record<string, number>>(
    `select extract(epoch from clock_timestamp())::float8 * 1000 as now_ms,
            current_setting('max_connections')::integer - (select count(*)::integer from pg_stat_activity) as sessions_left,
            (select count(*)::integer from events_default) as unpartitioned,
            coalesce((select extract(epoch from clock_timestamp() - min(occurred_at))::float8
                      from events where dispatched_at is null), 0) as oldest_event_seconds,
            (select count(*)::integer from users u left join celebrities c on c.user_id = u.id
             where u.push_state <> coalesce(c.state, 'push')) as split_states,
            (select count(*)::integer from celebrities where state = 'both') as half_done,
            (select count(*)::integer from node_leases where expires_at > clock_timestamp()) as nodes`,
  );
  const found = rows[0]!;
  const skew = Math.abs(found.now_ms! - (askedAt + Date.now()) / 2);
  const status = await clusterStatus(cluster);
  const dead = status.queues.reduce((sum, queue) => sum + queue.deadLetters, 0);
  const warnIf = (bad: boolean) => (bad ? 'warning' : 'ok');
  return [
    ...status.components
      .filter((part) => part.name === 'workers' || part.name === 'gateways')
      .map((part) =>
        check(
          part.name,
          part.ready ? 'ok' : 'fault',
          part.detail,
          `Start one with \`feedctl up\` or \`feedctl ${part.kind} start\`.`,
        ),
      ),
    check(
      'clock',
      warnIf(skew > CLOCK_SKEW_MS),
      `${Math.round(skew)} ms from the database's`,
      'Synchronise the clocks: ids are ordered by time.',
    ),
    check(
      'sessions',
      warnIf(found.sessions_left! < SESSIONS_LEFT),
      `${found.sessions_left} left at the database`,
      'Raise max_connections, or run fewer processes.',
    ),
    check(
      'node numbers',
      warnIf(found.nodes! > 50),
      `${found.nodes} of 63 leased`,
      'Fewer processes that create posts, or wait for leases to end.',
    ),
    check(
      'outbox',
      found.oldest_event_seconds! > OLD_EVENT_SECONDS ? 'fault' : 'ok',
      `oldest event not dispatched: ${Math.round(found.oldest_event_seconds!)} s`,
      'A worker dispatches them: see that one runs, and its log.',
    ),
    check(
      'event partitions',
      warnIf(found.unpartitioned! > 0),
      `${found.unpartitioned} events outside a weekly partition`,
      'Run `feedctl migrate`; a worker keeps partitions ahead.',
    ),
    ...laneTroubles(status.lanes).map(({ lane, kind, detail, fix: mend }) =>
      check(
        `${lane} lane`,
        'warning',
        `${kind} ${detail}`,
        `Run \`${mend}\` when it may go on as ever: what waits for it waits.`,
      ),
    ),
    check(
      'dead letters',
      warnIf(dead > 0),
      `${dead}`,
      'Read the reasons in bus.dead_letters and `feedctl feed verify --all --repair`.',
    ),
    check(
      'push states',
      found.split_states! > 0 ? 'fault' : 'ok',
      `${found.split_states} authors differ between users and celebrities`,
      'Mark or unmark those authors again.',
    ),
    check(
      'celebrities',
      warnIf(found.half_done! > 0),
      `${found.half_done} on the way between push and pull`,
      'A change that was cut off: run `feedctl celebrity mark` or `unmark` again.',
    ),
  ];
}

function checkCache(sharedCache: FeedCache | undefined): Check[] {
  if (!sharedCache) return [];
  const { ready, version, detail, warning } = sharedCache.health();
  if (!ready) return [check('cache', 'warning', detail, ERRORS.CACHE_UNREACHABLE.fix)];
  return [
    check('cache', 'ok', `Redis ${version} at ${detail}`),
    check(
      'cache memory',
      warning ? 'warning' : 'ok',
      warning?.text ?? 'gives way when it is full',
      warning?.fix,
    ),
  ];
}
