import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { Database } from '../../src/engine/database/database.ts';
import { type CitusNode, emptyCitusDatabase, startCitusCluster } from '../support/citus.ts';
import { feedctl, json, type SpawnOptions, temporaryDirectory } from '../support/cli.ts';
import { plainFeedPartitions } from '../support/feedPartitions.ts';
import { type Rabbit, startRabbitCluster } from '../support/rabbitmq.ts';
import { type PrivateRedis, startRedis } from '../support/redis.ts';
import { type SentinelGroup, startSentinelGroup } from '../support/redisGroups.ts';
import { freePorts, type RunningServer } from '../support/servers.ts';
import { UNLIMITED } from '../support/unlimited.ts';
import { DatabasePair } from './databasePair.ts';
import { Link } from './link.ts';
import { Role } from './role.ts';

export interface ClusterSize {
  readonly brokers: number;
  readonly workers: number;
  readonly gateways: number;
  /** A Redis with a replica and sentinels. Else one Redis behind a link of each role. */
  readonly sentinels: boolean;
}

export interface ClusterOptions extends ClusterSize {
  /** Arguments of node for every role, as for a planted bug. */
  readonly node?: readonly string[];
  /** Path of the `bin/run.js` of the release that the cluster begins with. */
  readonly binary?: string;
  /** A coordinator and two nodes of Citus in place of a primary and a standby. */
  readonly citus?: boolean;
  /** Each database has a disk of its own, which can be full. */
  readonly disks?: boolean;
}

export interface GatewayRole {
  readonly role: Role;
  /** The link that clients connect through. */
  readonly front: Link;
  readonly url: string;
}

/** Real servers and roles, with a link between each role and each server. It ends with the test. */
export interface ChaosCluster {
  readonly size: ClusterSize;
  /** Missing in a cluster on Citus, whose faults are others. */
  readonly database: DatabasePair;
  /** The coordinator and then the nodes. Empty without Citus. */
  readonly citus: readonly CitusNode[];
  readonly db: Database;
  readonly brokers: readonly Rabbit[];
  /** The server that is written to: the present master of sentinels. */
  redis(): Promise<PrivateRedis>;
  readonly sentinels: SentinelGroup | undefined;
  readonly workers: readonly Role[];
  readonly gateways: readonly GatewayRole[];
  readonly roles: readonly Role[];
  /** Settings of commands, without links between. */
  readonly at: SpawnOptions & { readonly env: Record<string, string> };
  /** Path of the `bin/run.js` of the release that it began with. */
  readonly release: string | undefined;
  /** From now on commands are of this release. Roles stay as they are. */
  upgrade(): void;
  json<T>(...args: string[]): Promise<T>;
  run(...args: string[]): ReturnType<typeof feedctl>;
  /** Makes users and follows, given as pairs `[follower, followee]`. */
  seedGraph(pairs: readonly (readonly [number, number])[]): Promise<void>;
}

export async function openChaosCluster(options: ClusterOptions): Promise<ChaosCluster> {
  const directory = join(await temporaryDirectory(), 'brokers');
  const [{ pair, nodes, url, ports }, brokers, group, single] = await Promise.all([
    options.citus ? citusServers() : pairOfServers(options),
    ending(startRabbitCluster(directory, options.brokers)),
    options.sentinels ? ending(startSentinelGroup().then((one) => [one])) : undefined,
    options.sentinels ? undefined : ending(startRedis().then((one) => [one])),
  ]).then(([first, second, third, fourth]) => [first, second, third?.[0], fourth?.[0]] as const);
  const db = new Database(url, { maxSessions: 4 });
  onTestFinished(() => db.close());

  const links: Link[] = [];
  onTestFinished(() => {
    for (const link of links) link.close();
  });
  const linkTo = async (port: number) => {
    const link = await Link.open({ host: '127.0.0.1', port });
    links.push(link);
    return link;
  };
  const linksTo = (ports: readonly number[]) => Promise.all(ports.map(linkTo));
  const env = {
    ...UNLIMITED,
    FEEDCTL_DATABASE_URL: url,
    FEEDCTL_BROKER_URL: brokers.map(({ port }) => brokerUrl(`127.0.0.1:${port}`)).join(','),
    FEEDCTL_CACHE_URL: group?.url ?? single!.url,
  };
  const { node, binary } = options;
  let at = { env, ...(node && { node }), ...(binary && { binary }) };
  await json(['migrate', '--partitions', '4'], at);
  if (!binary && !options.citus) await plainFeedPartitions(db);

  const role = async (name: string, args: readonly string[]) => {
    const own = {
      database: await linksTo(ports),
      broker: await linksTo(brokers.map(({ port }) => port)),
      cache: single ? await linksTo([single.port]) : [],
    };
    const user = options.citus ? 'postgres' : 'feedctl';
    const roleEnv = {
      ...env,
      FEEDCTL_DATABASE_URL: `postgres://${user}@${addresses(own.database)}/feedctl`,
      FEEDCTL_BROKER_URL: own.broker.map(({ address }) => brokerUrl(address)).join(','),
      ...(single && { FEEDCTL_CACHE_URL: `redis://${own.cache[0]!.address}` }),
    };
    return new Role({
      name,
      args,
      env: roleEnv,
      links: own,
      ...(node && { node }),
      ...(binary && { binary }),
    });
  };
  const count = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
  const workers: Role[] = [];
  for (const n of count(options.workers)) workers.push(await role(`worker ${n}`, ['worker', 'start']));
  const gateways: GatewayRole[] = [];
  for (const n of count(options.gateways)) {
    const [port] = (await freePorts(1)) as [number];
    const front = await linkTo(port);
    const url = `http://${front.address}`;
    gateways.push({
      role: await role(`gateway ${n}`, ['gateway', 'start', '--port', String(port)]),
      front,
      url,
    });
  }
  const roles = [...workers, ...gateways.map((one) => one.role)];
  onTestFinished(async () => {
    await Promise.all(
      roles.map(async (one) => {
        one.freeze(false);
        await one.kill();
      }),
    );
  });
  for (const one of roles) await one.start();

  return {
    size: options,
    get database() {
      if (!pair) throw new Error('this fault is one of a cluster without Citus');
      return pair;
    },
    citus: nodes,
    db,
    brokers,
    redis: async () => single ?? group!.master(),
    sentinels: group,
    workers,
    gateways,
    roles,
    at,
    release: binary,
    upgrade: () => {
      at = { env, ...(node && { node }) };
    },
    json: (...args) => json(args, at),
    run: (...args) => feedctl(args, at),
    async seedGraph(pairs) {
      const file = join(await temporaryDirectory(), 'graph.edgelist');
      await writeFile(file, pairs.map((pair) => `${pair.join(' ')}\n`).join(''));
      await json(['seed', 'graph', file], at);
    },
  };
}

interface Servers {
  readonly pair?: DatabasePair;
  readonly nodes: readonly CitusNode[];
  readonly url: string;
  readonly ports: readonly number[];
}

async function pairOfServers({ disks, binary }: ClusterOptions): Promise<Servers> {
  const pair = await DatabasePair.start(disks);
  if (!binary) return { pair, nodes: [], url: pair.url, ports: pair.ports };
  // The previous release knows no URL of several hosts.
  const ports = pair.ports.slice(0, 1);
  return { pair, nodes: [], url: `postgres://feedctl@127.0.0.1:${ports[0]}/feedctl`, ports };
}

async function citusServers(): Promise<Servers> {
  const nodes = await ending(startCitusCluster(await temporaryDirectory()).then((all) => [...all]));
  const url = await emptyCitusDatabase(nodes[0]!.url, 'feedctl');
  return { nodes, url, ports: [nodes[0]!.port] };
}

/** Stops servers when the test ends, also if others do not start. */
async function ending<T extends RunningServer>(starting: Promise<T[]>): Promise<T[]> {
  const servers = await starting;
  onTestFinished(async () => {
    for (const server of servers) await server.stop();
  });
  return servers;
}

const addresses = (links: readonly Link[]): string => links.map(({ address }) => address).join(',');

const brokerUrl = (address: string): string => `amqp://guest:guest@${address}`;
