import { execFileSync } from 'node:child_process';
import { appendFile, chown, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { PostgresServer } from '../support/postgres.ts';
import { freePorts } from '../support/servers.ts';
import { preparedFiles, type ServerFiles, testServer } from '../support/standby.ts';
import { diskPgdataOf, freeDisk, limitDisk, mountDisks } from './disks.ts';

interface Member {
  readonly port: number;
  readonly pgdata: string;
  readonly server: PostgresServer;
}

/** Runs one statement on a server and returns its rows. */
async function ask<Row extends object>(url: string, statement: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, options: '-c synchronous_commit=local' });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(statement)).rows as Row[];
  } finally {
    await client.end();
  }
}

/** A server that is not where it should be by now never will be. */
const MAX_MS = 120_000;

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + MAX_MS; !(await condition().catch(() => false)); await sleep(50))
    if (performance.now() > end) throw new Error(`${what} did not happen within two minutes`);
}

/** A primary and a standby that streams from it. They change places. Commits wait for the standby. */
export class DatabasePair {
  readonly #members: readonly [Member, Member];
  readonly #owner: ServerFiles['owner'];
  #primary = 0;

  /** Why no disk can be full. undefined: `fillDisk` works. */
  readonly disksMissing: string | undefined;

  private constructor(
    members: readonly [Member, Member],
    owner: ServerFiles['owner'],
    disksMissing: string | undefined,
  ) {
    this.#members = members;
    this.#owner = owner;
    this.disksMissing = disksMissing;
  }

  static async start(disks = false): Promise<DatabasePair> {
    const files = await preparedFiles();
    const disksMissing = disks ? mountDisks(files) : 'each database shares its disk with others';
    const hba = join(files.dataDir, 'hba.conf');
    await writeFile(hba, HBA);
    const ports = (await freePorts(2)) as [number, number];
    const members = ports.map((port, i) =>
      memberOf(files, port, disksMissing ? pgdataOf(files, i) : diskPgdataOf(files, i), hba),
    ) as [Member, Member];
    const pair = new DatabasePair(members, files.owner, disksMissing);
    await members[0].server.start();
    for (const setting of ["wal_keep_size = '256MB'", 'max_connections = 200', 'log_min_messages = fatal'])
      await ask(members[0].server.url, `alter system set ${setting}`);
    await members[0].server.stop();
    await members[0].server.start();
    await pair.rebuildStandby();
    return pair;
  }

  get ports(): readonly number[] {
    return this.#members.map(({ port }) => port);
  }

  /** URL of the servers without links between. */
  get url(): string {
    const hosts = this.ports.map((port) => `127.0.0.1:${port}`).join(',');
    return `postgres://feedctl@${hosts}/feedctl`;
  }

  get primary(): PostgresServer {
    return this.#members[this.#primary]!.server;
  }

  get #standby(): Member {
    return this.#members[1 - this.#primary]!;
  }

  /** Restarts the primary after an end as by a power failure, or after a stop that ends its sessions. */
  async restart(how: 'crash' | 'stop'): Promise<void> {
    await this.primary.stop(how === 'crash' ? 'SIGQUIT' : 'SIGINT');
    await this.primary.start();
  }

  /** Leaves almost no room on the disk of the primary. `log`: the log needs a new file at once. */
  async fillDisk(how: 'data' | 'log'): Promise<void> {
    limitDisk(this.#members[this.#primary]!.pgdata);
    if (how === 'data') return;
    // Each statement begins another file of the log, until one has no room: then the server ends.
    const isEnded = () =>
      switchLog(this.primary.url).then(
        () => false,
        () => true,
      );
    for (let i = 0; i < MAX_SWITCHES && !(await isEnded()); i += 1);
  }

  /** Makes room again, and starts the primary if it has ended, as an orchestrator does. */
  async makeRoom(): Promise<void> {
    freeDisk(this.#members[this.#primary]!.pgdata);
    const { primary } = this;
    for (let tries = 0; tries < 50; tries += 1) {
      if (
        await ask(primary.url, 'select').then(
          () => true,
          () => false,
        )
      )
        return;
      await sleep(100);
    }
    await primary.stop('SIGQUIT').catch(() => {});
    await primary.start();
  }

  /** Makes the standby miss all later commits. They do not wait for it any more. */
  async detachStandby(): Promise<void> {
    await this.#waitForStandby(false);
    await ask(this.#standby.server.url, `alter system set primary_conninfo = ''`);
    await ask(this.#standby.server.url, 'select pg_reload_conf()');
    await until('the end of replication', async () => {
      const rows = await ask(this.#standby.server.url, 'select from pg_stat_wal_receiver');
      return rows.length === 0;
    });
  }

  /** Ends the primary and promotes the standby. */
  async failOver(): Promise<void> {
    await this.primary.stop('SIGQUIT');
    await ask(this.#standby.server.url, 'select pg_promote()');
    this.#primary = 1 - this.#primary;
    // The settings came with the copy: the new primary has no standby yet.
    await this.#waitForStandby(false);
  }

  /** Makes the other server a copy of the primary, which streams from it. */
  async rebuildStandby(): Promise<void> {
    const { server, pgdata, port } = this.#standby;
    if (server.isRunning) await server.stop('SIGQUIT');
    await rm(pgdata, { recursive: true, force: true });
    const primary = this.#members[this.#primary]!;
    const client = new pg.Client(primary.server.url);
    await client.connect();
    await client.query(`select pg_backup_start('standby', true)`);
    copyRunning(primary.pgdata, pgdata);
    const { rows } = await client.query<{ labelfile: string }>('select labelfile from pg_backup_stop(false)');
    await client.end();
    const label = join(pgdata, 'backup_label');
    await writeFile(label, rows[0]!.labelfile);
    // The server opens the label for writing when it renames it.
    if (this.#owner) await chown(label, this.#owner.uid, this.#owner.gid);
    await writeFile(join(pgdata, 'standby.signal'), '');
    const conninfo = `host=127.0.0.1 port=${primary.port} user=feedctl`;
    await appendFile(join(pgdata, 'postgresql.auto.conf'), `\nprimary_conninfo = '${conninfo}'\n`);
    if (primary.server.url.includes(String(port))) throw new Error('the standby has the port of the primary');
    await server.start();
    await this.#waitForStandby(true);
  }

  async #waitForStandby(waits: boolean): Promise<void> {
    const { url } = this.primary;
    if (waits)
      await until('replication', async () => {
        const rows = await ask(url, `select from pg_stat_replication where state = 'streaming'`);
        return rows.length > 0;
      });
    await ask(url, `alter system set synchronous_standby_names = '${waits ? '*' : ''}'`);
    await ask(url, 'select pg_reload_conf()');
  }
}

/** Maximum files of the log that are kept for later use. */
const MAX_SWITCHES = 64;

/** Ends the present file of the log and begins another. */
async function switchLog(url: string): Promise<void> {
  await ask(url, `select pg_logical_emit_message(true, 'chaos', 'a'), pg_switch_wal()`);
}

const HBA = [
  'local all all trust',
  'host replication feedctl 127.0.0.1/32 trust',
  'host all feedctl 127.0.0.1/32 trust',
  '',
].join('\n');

const pgdataOf = ({ pgdata }: ServerFiles, index: number): string =>
  index === 0 ? pgdata : `${pgdata}-${index}`;

function memberOf(files: ServerFiles, port: number, pgdata: string, hba: string): Member {
  const server = testServer(files, pgdata, [
    ...['-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', `hba_file=${hba}`],
    ...['-c', 'wal_receiver_status_interval=1', '-c', 'wal_retrieve_retry_interval=100'],
  ]);
  return { port, pgdata, server };
}

/** Copies the files of a running server. Files that vanish meanwhile are replayed from the log. */
function copyRunning(from: string, to: string): void {
  try {
    execFileSync('cp', ['-a', from, to], { env: { ...process.env, LC_ALL: 'C' }, stdio: 'pipe' });
  } catch (error) {
    const { stderr } = error as { stderr?: Buffer };
    const lines = String(stderr).trim().split('\n');
    if (!lines.every((line) => line.includes('No such file or directory'))) throw error;
  }
  for (const name of ['postmaster.pid', 'postmaster.opts']) execFileSync('rm', ['-f', join(to, name)]);
}
