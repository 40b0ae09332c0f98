import { access, constants, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Bus } from '../bus/bus.ts';
import type { FeedCache } from '../cache/cache.ts';
import { openBus, openSharedCache, resolveDatabase } from '../cluster/cluster.ts';
import { readClusterState } from '../config/clusterState.ts';
import type { Config, SettingName, Source } from '../config/config.ts';
import { Database } from '../database/database.ts';
import { checkSchema } from '../database/migrate.ts';
import { withoutPassword } from '../database/url.ts';
import { checkSessionsKept, checkWritable } from '../database/usable.ts';
import { Identity } from '../identity/identity.ts';
import { formatBytes } from '../model/bytes.ts';
import { type Check, faultOf } from '../model/check.ts';
import { ERRORS, messageOf } from '../model/errors.ts';
import { Resources } from '../resilience/resources.ts';
import { silentLog } from '../telemetry/log.ts';
import { checkCitus } from './citusChecks.ts';
import { checkCluster } from './clusterChecks.ts';
import { checkLineage } from './lineageCheck.ts';

export interface DoctorReport {
  readonly context: string;
  readonly ok: boolean;
  readonly settings: readonly { name: string; value: string; source: Source }[];
  readonly checks: readonly Check[];
}

const LOW_DISK_BYTES = 2 * 2 ** 30;
/** Room for eight segments of the write-ahead log. Below it the database may stop at any time. */
const FULL_DISK_BYTES = 128 * 2 ** 20;

/**
 * Checks everything that the cluster needs, and names a fix for each fault. Throws for none of
 * them.
 */
export async function diagnose(config: Config): Promise<DoctorReport> {
  const settings = (Object.keys(config.sources) as SettingName[]).map((name) => ({
    name,
    value: config[name] === undefined ? '(none)' : withoutPassword(String(config[name])),
    source: config.sources[name],
  }));
  const checks: Check[] = [{ name: 'node', status: 'ok', detail: process.version }];
  if (config.embedded) checks.push(...(await checkDataDir(config.dataDir)));
  await checkServers(config, checks);
  // The database of an embedded cluster that does not run is the same fault again.
  const isSaid = checks.some(({ name, status }) => name === 'cluster' && status === 'fault');
  const said = isSaid ? checks.filter(({ name }) => name !== 'CLUSTER_NOT_RUNNING') : checks;
  const ok = said.every(({ status }) => status !== 'fault');
  return { context: config.context, ok, settings, checks: said };
}

/** Checks the database first: the broker and the cache use names and states that it stores. */
async function checkServers(config: Config, checks: Check[]): Promise<void> {
  /** Turns an error of one part into a fault, and the other parts are checked all the same. */
  const part = async (name: string, look: () => Promise<readonly Check[]>): Promise<void> => {
    try {
      checks.push(...(await look()));
    } catch (error) {
      checks.push(faultOf(name, error));
    }
  };
  const resources = new Resources();
  let db: Database | undefined;
  let bus: Bus | undefined;
  let sharedCache: FeedCache | undefined;
  await part('database', async () => {
    const server = await resolveDatabase(config);
    const opened = new Database(server);
    resources.add('database', () => opened.close());
    await opened.ping();
    await checkWritable(opened, opened.url);
    await checkSessionsKept(server);
    checks.push({ name: 'database', status: 'ok', detail: withoutPassword(opened.url) });
    await checkSchema(opened, config.store);
    db = opened;
    return [{ name: 'schema', status: 'ok', detail: 'up to date' }];
  });
  if (db) {
    const database = db;
    await part('broker', async () => {
      const opened = await openBus(config, database.server, silentLog);
      resources.add('bus', () => opened.close());
      bus = opened;
      return (await opened.check?.()) ?? [];
    });
    await part('cache', async () => {
      const identity = await Identity.open(database);
      sharedCache = await openSharedCache(config, database, identity, silentLog);
      resources.add('cache', () => sharedCache?.close());
      return checkCache(sharedCache);
    });
    await part('lineage', () => checkLineage(database));
    await part('citus', () => checkCitus(database));
  }
  if (db && bus) {
    const cluster = { config, db, bus, sharedCache };
    await part('cluster', () => checkCluster(cluster));
  }
  await resources.release();
}

async function checkDataDir(dataDir: string): Promise<Check[]> {
  const running = await readClusterState(dataDir);
  const cluster: Check = running
    ? {
        name: 'cluster',
        status: 'ok',
        detail: `runs in process ${running.pid}, version ${running.version}`,
      }
    : {
        name: 'cluster',
        status: 'fault',
        detail: `none runs in ${dataDir}`,
        fix: 'Start one with `feedctl up`.',
      };
  return [cluster, ...(await checkDisk(dataDir))];
}

/** Checks the directory, or the nearest parent that exists. */
async function checkDisk(path: string): Promise<Check[]> {
  try {
    await access(path, constants.W_OK);
    const { bavail, bsize } = await statfs(path);
    const free = bavail * bsize;
    const status = free > LOW_DISK_BYTES ? 'ok' : free > FULL_DISK_BYTES ? 'warning' : 'fault';
    const disk: Check = { name: 'disk', status, detail: `${formatBytes(free)} free at ${path}` };
    return [
      { name: 'data directory', status: 'ok', detail: `${path} can be written` },
      status === 'ok' ? disk : { ...disk, fix: `Make room at ${path}, or move the data directory.` },
    ];
  } catch (error) {
    const parent = dirname(path);
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && path !== parent) return checkDisk(parent);
    const fix = 'Pick a directory that can be written with --data-dir.';
    return [{ name: 'data directory', status: 'fault', detail: messageOf(error), fix }];
  }
}

function checkCache(sharedCache: FeedCache | undefined): Check[] {
  if (!sharedCache) return [];
  const { ready, server, version, detail, fix, warning } = sharedCache.health();
  if (!ready) return [{ name: 'cache', status: 'warning', detail, fix: fix ?? ERRORS.CACHE_UNREACHABLE.fix }];
  return [
    { name: 'cache', status: 'ok', detail: `${server ?? 'Redis'} ${version} at ${detail}` },
    warning
      ? { name: 'cache memory', status: 'warning', detail: warning.text, fix: warning.fix }
      : { name: 'cache memory', status: 'ok', detail: 'evicts values when it is full' },
  ];
}
