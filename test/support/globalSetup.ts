import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { Database } from '../../src/engine/database/database.ts';
import { prepareDataDir, startEmbeddedPostgres } from '../../src/engine/database/embedded.ts';
import { migrate } from '../../src/engine/database/migrate.ts';
import { ensurePartitions } from '../../src/engine/store/partitions.ts';
import { chromium } from './chromium.ts';
import { citus } from './citus.ts';
import { isolateFromPerson } from './isolation.ts';
import { keepFilesInMemory } from './memoryDirectory.ts';
import { POSTGRES_BIN, startPostgres } from './postgres.ts';
import { prometheus } from './prometheus.ts';
import { rabbitmq } from './rabbitmq.ts';
import { redis } from './redis.ts';
import { type RunningServer, serveServers } from './servers.ts';
import { tmux } from './tmux.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** URL of the server for all test files, with a migrated template of their databases. */
    serverUrl: string;
    /** URL that `findServer` requests other servers from. */
    servers: string;
  }
}

/**
 * Isolates the run from the person's settings, and starts one PostgreSQL. Every test file makes its
 * databases in it.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const removeMemory = keepFilesInMemory();
  const removeHome = await isolateFromPerson();
  const dataDir = await mkdtemp(join(tmpdir(), 'feedctl-test-'));
  await chmod(dataDir, 0o711);
  await prepareDataDir(dataDir);
  const postgres = await startServer(dataDir);
  const template = new Database(postgres.url, { maxSessions: 2 });
  await migrate(template);
  await ensurePartitions(template, Date.now());
  await template.close();
  project.provide('serverUrl', postgres.url);
  const servers = await serveServers([rabbitmq, redis, citus, chromium, prometheus, tmux]);
  project.provide('servers', servers.url);
  return async () => {
    await servers.stop();
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
    await removeHome();
    removeMemory();
  };
}

/** Starts the embedded server, or the one that FEEDCTL_TEST_POSTGRES_BIN names. */
async function startServer(dataDir: string): Promise<RunningServer> {
  if (POSTGRES_BIN) return startPostgres(POSTGRES_BIN, dataDir);
  const { databaseUrl, stop } = await startEmbeddedPostgres(dataDir, { temporary: true });
  return { url: databaseUrl, stop };
}
