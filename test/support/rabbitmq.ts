import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { connect } from 'amqplib';
import { freePorts, type RunningServer, type ServerKind, type Supervised, supervise } from './servers.ts';

/** Directory with `rabbitmq-server` and `rabbitmqctl`. */
const BINARIES = process.env.FEEDCTL_TEST_RABBITMQ_BIN ?? '/usr/lib/rabbitmq/bin';
const BINARY = join(BINARIES, 'rabbitmq-server');
const START_MS = 180_000;

/** RabbitMQ for the suites, with the management API. See broker.ts. */
export const rabbitmq: ServerKind = {
  name: 'rabbitmq',
  variable: 'FEEDCTL_TEST_BROKER_URL',
  debianPackage: 'rabbitmq-server',
  installed: () => existsSync(BINARY),
  start: (directory) => startRabbit(directory),
};

export interface RabbitOptions {
  readonly plugins?: readonly string[];
  /** Lines of rabbitmq.conf. */
  readonly config?: readonly string[];
  /** What the nodes of one cluster share, and the name of this one: `startRabbitCluster` sets it. */
  readonly node?: { readonly name: string; readonly epmd: number; readonly home: string };
}

export interface Rabbit extends RunningServer {
  readonly port: number;
  readonly managementUrl: string;
  /** Stops the server gracefully, or with kill -9. */
  down(how: 'stop' | 'kill'): Promise<void>;
  /** Restarts the server with the same data and ports. */
  up(): Promise<void>;
  /** Runs an Erlang expression in the server. */
  evaluate(expression: string): Promise<void>;
  /** Makes the server accept connections without answers. */
  freeze(frozen: boolean): Promise<void>;
}

/** Starts a private instance with separate node name, files, ports and epmd. */
export async function startRabbit(directory: string, options: RabbitOptions = {}): Promise<Rabbit> {
  const [port, distribution, ownEpmd] = (await freePorts(3)) as [number, number, number];
  const { name, epmd, home } = options.node ?? {
    name: `feedctl${port}@localhost`,
    epmd: ownEpmd,
    home: directory,
  };
  const [management] = (await freePorts(1)) as [number];
  await mkdir(directory, { recursive: true });
  const plugins = options.plugins ?? ['rabbitmq_consistent_hash_exchange', 'rabbitmq_management'];
  await writeFile(join(directory, 'enabled_plugins'), `[${plugins.join(',')}].\n`);
  const config = [
    `listeners.tcp.1 = 127.0.0.1:${port}`,
    'management.tcp.ip = 127.0.0.1',
    `management.tcp.port = ${management}`,
    'disk_free_limit.absolute = 50MB',
    'log.file.level = warning',
    'collect_statistics_interval = 1000',
    ...(options.config ?? []),
  ];
  await writeFile(join(directory, 'rabbitmq.conf'), `${config.join('\n')}\n`);
  const env = {
    HOME: home,
    RABBITMQ_CONF_ENV_FILE: join(directory, 'none'),
    RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(directory, 'none.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
    RABBITMQ_NODENAME: name,
    RABBITMQ_MNESIA_BASE: join(directory, 'data'),
    RABBITMQ_LOG_BASE: join(directory, 'log'),
    RABBITMQ_PID_FILE: join(directory, 'pid'),
    RABBITMQ_GENERATED_CONFIG_DIR: join(directory, 'config'),
    RABBITMQ_DIST_PORT: String(distribution),
    ERL_EPMD_PORT: String(epmd),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    // Waiting schedulers do not spin, as the tests need the processor.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+sbwt none +sbwtdcpu none +sbwtdio none',
  };
  const url = `amqp://guest:guest@127.0.0.1:${port}`;
  const managementUrl = `http://guest:guest@127.0.0.1:${management}`;
  const withManagement = plugins.includes('rabbitmq_management');
  let server: Supervised | undefined;

  const up = async () => {
    const started = supervise(BINARY, [], { env, after: `epmd -port ${epmd} -kill >/dev/null 2>&1` });
    server = started;
    let ended = false;
    void started.exited.then(() => {
      ended = true;
    });
    for (const until = Date.now() + START_MS; ; await sleep(100)) {
      if (ended) throw new Error(`RabbitMQ ended at its start: see ${join(directory, 'log')}`);
      if (await (withManagement ? answers(managementUrl) : accepts(port))) return;
      if (Date.now() > until) throw new Error('RabbitMQ did not start within three minutes');
    }
  };
  const down = async (how: 'stop' | 'kill') => {
    if (how === 'kill') process.kill(await beamPid(join(directory, 'pid')), 'SIGKILL');
    await server?.stop();
    server = undefined;
  };
  const evaluate = async (expression: string) => {
    await promisify(execFile)(join(BINARIES, 'rabbitmqctl'), ['eval', `${expression}.`], {
      env: { ...process.env, ...env },
    });
  };
  try {
    await up();
  } catch (error) {
    await down('stop');
    throw error;
  }
  // Tests that get only the broker's URL find the management API in its query.
  return {
    url: `${url}?management=${management}`,
    port,
    managementUrl,
    down,
    up,
    evaluate,
    freeze: async (frozen) => {
      process.kill(await beamPid(join(directory, 'pid')), frozen ? 'SIGSTOP' : 'SIGCONT');
    },
    stop: () => down('stop'),
  };
}

/** Starts nodes of one cluster. The first one is in service before the others join it. */
export async function startRabbitCluster(directory: string, count: number): Promise<Rabbit[]> {
  const [epmd, ...numbers] = (await freePorts(count + 1)) as [number, ...number[]];
  const names = numbers.map((number) => `feedctl${number}@localhost`);
  const config = [
    'cluster_formation.peer_discovery_backend = classic_config',
    ...names.map((name, i) => `cluster_formation.classic_config.nodes.${i + 1} = ${name}`),
    // A majority that is cut off from a dead node notices it within seconds.
    'net_ticktime = 5',
  ];
  const start = (name: string) =>
    startRabbit(join(directory, name), { config, node: { name, epmd, home: directory } });
  await mkdir(directory, { recursive: true });
  const first = await start(names[0]!);
  const others = await Promise.allSettled(names.slice(1).map(start));
  const nodes = [first, ...others.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))];
  const failed = others.find((one) => one.status === 'rejected');
  if (!failed) return nodes;
  for (const node of nodes) await node.stop();
  throw failed.reason;
}

const beamPid = async (file: string): Promise<number> => Number(await readFile(file, 'utf8'));

const answers = (managementUrl: string): Promise<boolean> =>
  management(managementUrl, 'GET', 'vhosts').then(
    () => true,
    () => false,
  );

async function accepts(port: number): Promise<boolean> {
  try {
    await (await connect(`amqp://guest:guest@127.0.0.1:${port}`)).close();
    return true;
  } catch {
    return false;
  }
}

/** Calls the management API. Throws for any status but success. */
export async function management(
  managementUrl: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const { origin, username, password } = new URL(managementUrl);
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const answer = await fetch(`${origin}/api/${path}`, {
    method,
    headers: {
      authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
      'content-type': 'application/json',
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}
