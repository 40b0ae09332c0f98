import { existsSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { temporaryDirectory } from './cli.ts';
import { freePorts, supervise } from './servers.ts';

const BINARY = '/usr/sbin/pgbouncer';
const START_MS = 20_000;

export const isPgbouncerInstalled = existsSync(BINARY);

/** Starts PgBouncer before the database of `url`, which listens on a socket, until the test ends. */
export async function startPgbouncer(url: string, poolMode: 'session' | 'transaction'): Promise<string> {
  const { pathname, username, searchParams } = new URL(url.replace('@/', '@none/'));
  const database = pathname.slice(1);
  const [port] = (await freePorts(1)) as [number];
  const directory = await temporaryDirectory();
  await chmod(directory, 0o755);
  const file = join(directory, 'pgbouncer.ini');
  await writeFile(
    file,
    `[databases]
${database} = host=${searchParams.get('host')} dbname=${database} user=${username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = ${poolMode}
default_pool_size = 60
max_client_conn = 200
ignore_startup_parameters = options,extra_float_digits
`,
  );
  // PgBouncer refuses to run as root, and the database's socket belongs to the database's user.
  const asRoot = process.getuid?.() === 0;
  const [command, args] = asRoot ? ['setpriv', ['--reuid=postgres', '--clear-groups', BINARY]] : [BINARY, []];
  const server = supervise(command as string, [...(args as string[]), file]);
  onTestFinished(() => server.stop());
  for (const until = Date.now() + START_MS; !(await answers(port)); await sleep(20))
    if (Date.now() > until) throw new Error('PgBouncer did not start');
  return `postgres://${username}@127.0.0.1:${port}/${database}`;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
