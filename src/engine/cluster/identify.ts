import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { lockCluster, readClusterState } from '../config/clusterState.ts';
import type { Config } from '../config/config.ts';
import { Database } from '../database/database.ts';
import { prepareDataDir, startEmbeddedPostgres } from '../database/embedded.ts';
import { checkSchema } from '../database/migrate.ts';
import {
  adoptDatabase,
  type DatabaseIdentity,
  type Lineage,
  readDatabaseIdentity,
  readLineages,
} from '../identity/identity.ts';
import { FeedctlError } from '../model/errors.ts';
import { countGateways, countWorkers } from '../store/processes.ts';
import { readComponents } from './components.ts';

export interface IdentityReport extends DatabaseIdentity {
  readonly production: boolean;
  /** Address without credentials. Null: none. Missing: no role has run yet. */
  readonly broker?: string | null;
  readonly cache?: string | null;
  /** Workers and gateways with a heartbeat in the last 15 s. */
  readonly roles: number;
  /** The oldest first. */
  readonly lineages: readonly Lineage[];
}

/**
 * Runs `work` with the database of the configuration, whatever its identity is. Starts the database of an
 * embedded cluster that is down. Throws as `openCluster`.
 */
export async function withAnyDatabase<T>(
  config: Config,
  version: string,
  work: (db: Database) => Promise<T>,
): Promise<T> {
  const url = config.databaseUrl ?? (await readClusterState(config.dataDir))?.databaseUrl;
  if (url !== undefined) return withDatabase(url, config, work);
  if (!existsSync(join(config.dataDir, 'postgres', 'PG_VERSION')))
    throw new FeedctlError('CLUSTER_NOT_RUNNING', `${config.dataDir} has no cluster`);
  await prepareDataDir(config.dataDir);
  const lock = await lockCluster(config.dataDir, version);
  try {
    const postgres = await startEmbeddedPostgres(config.dataDir);
    try {
      return await withDatabase(postgres.databaseUrl, config, work);
    } finally {
      await postgres.stop();
    }
  } finally {
    await lock.release();
  }
}

async function withDatabase<T>(
  url: string,
  { store }: Config,
  work: (db: Database) => Promise<T>,
): Promise<T> {
  const db = new Database(url, { maxSessions: 2 });
  try {
    await checkSchema(db, store);
    return await work(db);
  } finally {
    await db.close();
  }
}

/** Reads who the cluster of a database is. Changes nothing. */
export async function readIdentity(db: Database): Promise<IdentityReport> {
  return {
    ...(await readDatabaseIdentity(db)),
    ...(await readComponents(db)),
    roles: (await countWorkers(db)) + (await countGateways(db)),
    lineages: await readLineages(db),
  };
}

/**
 * Continues the cluster with this database, and takes the virtual host of the configuration over. Asks
 * `mayAdopt` before, with the other cluster that the virtual host belongs to, and changes nothing if that
 * returns false. Returns that other cluster. Throws the BROKER_ codes of a broker that does not answer.
 */
export async function adopt(
  db: Database,
  config: Config,
  cluster: string,
  mayAdopt: (brokerFrom: string | undefined) => Promise<boolean>,
): Promise<string | undefined> {
  const { adoptBroker, otherBrokerOwner } = await import('./adoptBroker.ts');
  const brokerFrom = await otherBrokerOwner(config, db, cluster);
  if (!(await mayAdopt(brokerFrom))) return brokerFrom;
  await adoptDatabase(db);
  await adoptBroker(config, db);
  return brokerFrom;
}
