import { freshVhost } from './broker.ts';
import { feedctl, json, type SpawnOptions, sql, testRole } from './cli.ts';
import { citusDatabase, freshDatabase } from './cluster.ts';
import { findServer } from './server.ts';
import { UNLIMITED } from './unlimited.ts';

const servers = {
  rabbitmq: await findServer('rabbitmq'),
  redis: await findServer('redis'),
  citus: await findServer('citus'),
};

/** Foundations of clusters of processes: everything in one database, or separate servers. */
export const FOUNDATIONS = [
  { name: 'plain PostgreSQL', missing: false, broker: false, redis: false, citus: false },
  {
    name: 'PostgreSQL, RabbitMQ and Redis',
    missing: !servers.rabbitmq || !servers.redis,
    broker: true,
    redis: true,
    citus: false,
  },
  { name: 'Citus', missing: !servers.citus, broker: false, redis: false, citus: true },
] as const;
/** Runs the kill tests on every foundation, which takes minutes. `npm test` runs one of each. */
export const EVERY_FOUNDATION = process.env.FEEDCTL_FOUNDATIONS === 'all';

export type Foundation = (typeof FOUNDATIONS)[number];

/** A migrated cluster without limits on requests, whose processes the test starts. */
export async function spawnedCluster(on: Foundation) {
  const { url } = await (on.citus ? citusDatabase(servers.citus!) : freshDatabase());
  const at: SpawnOptions & { env: Record<string, string> } = {
    env: {
      ...UNLIMITED,
      FEEDCTL_DATABASE_URL: url,
      ...(on.broker && { FEEDCTL_BROKER_URL: (await freshVhost(servers.rabbitmq!)).url }),
      ...(on.redis && { FEEDCTL_CACHE_URL: servers.redis! }),
    },
  };
  await json(['migrate', ...(on.broker ? ['--partitions', '2'] : [])], at);
  return {
    at,
    url,
    sql: <Row extends object>(text: string) => sql<Row>(url, text),
    run: (...args: string[]) => feedctl(args, at),
    json: <T>(...args: string[]) => json<T>(args, at),
    worker: () => testRole(['worker', 'start'], at),
    gateway: async () => {
      const role = await testRole(['gateway', 'start', '--port', '0'], at);
      return JSON.parse(role.stdout()) as { gatewayUrl: string; gatewayId: string };
    },
    token: async (userId: number) =>
      (await json<{ token: string }>(['user', 'token', String(userId)], at)).token,
  };
}
export type SpawnedCluster = Awaited<ReturnType<typeof spawnedCluster>>;

/** Returns clients of users at a gateway, in the order of the users. */
export const clientsOf = (gatewayUrl: string, userIds: readonly string[], at: SpawnOptions) =>
  Promise.all(
    userIds.map(async (id) => {
      const { token } = await json<{ token: string }>(['user', 'token', id], at);
      return httpClient(gatewayUrl, token);
    }),
  );

/** Requests of one user to a gateway. */
export function httpClient(gatewayUrl: string, token: string) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const call = async (method: string, path: string, body?: object) => {
    const init = { method, headers, ...(body && { body: JSON.stringify(body) }) };
    const response = await fetch(new URL(path, gatewayUrl), init);
    const text = await response.text();
    return { status: response.status, body: text ? (JSON.parse(text) as unknown) : undefined };
  };
  return {
    call,
    async post(text: string): Promise<string> {
      const { status, body } = await call('POST', '/post/create', { text });
      if (status !== 200 && status !== 201) throw new Error(`HTTP ${status} ${JSON.stringify(body)}`);
      return (body as { id: string }).id;
    },
    async feed(limit = 100): Promise<string[]> {
      const { status, body } = await call('GET', `/post/feed?limit=${limit}`);
      if (status !== 200) throw new Error(`HTTP ${status} ${JSON.stringify(body)}`);
      return (body as { id: string }[]).map(({ id }) => id);
    },
  };
}
