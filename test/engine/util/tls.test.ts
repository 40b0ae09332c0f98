import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { RabbitBus } from '../../../src/engine/bus/rabbitmq/bus.ts';
import { openRedisCache } from '../../../src/engine/cache/redis/cache.ts';
import { copyOut } from '../../../src/engine/database/copy.ts';
import { Database } from '../../../src/engine/database/database.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { tlsOptions } from '../../../src/engine/util/tls.ts';
import { type Certificates, canCertify, certificates } from '../../support/certificates.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { codeOf, rejection } from '../../support/codes.ts';
import { file } from '../../support/files.ts';
import { rabbitmq, startRabbit } from '../../support/rabbitmq.ts';
import { redis, redisCommand, startRedis } from '../../support/redis.ts';
import { freePorts } from '../../support/servers.ts';

const query = (parameters: Record<string, string>) => `?${new URLSearchParams(parameters)}`;
const asClient = ({ ca, client }: Certificates) =>
  query({ cacertfile: ca, certfile: client.cert, keyfile: client.key });

describe.skipIf(!canCertify())('TLS', () => {
  test.skipIf(!rabbitmq.installed())('with RabbitMQ', { timeout: 120_000 }, async () => {
    const files = await certificates();
    const { ca, otherCa, server } = files;
    const [port] = await freePorts(1);
    const directory = await mkdtemp(join(tmpdir(), 'feedctl-rabbit-'));
    const rabbit = await startRabbit(directory, {
      config: [
        `listeners.ssl.1 = 127.0.0.1:${port}`,
        `ssl_options.cacertfile = ${ca}`,
        `ssl_options.certfile = ${server.cert}`,
        `ssl_options.keyfile = ${server.key}`,
        'ssl_options.verify = verify_peer',
        'ssl_options.fail_if_no_peer_cert = true',
      ],
    });
    onTestFinished(async () => {
      await rabbit.stop();
      await rm(directory, { recursive: true, force: true });
    });
    const { url: databaseUrl } = await freshDatabase();
    const at = (text: string) => {
      const bus = new RabbitBus(text, databaseUrl, { partitions: 1 });
      onTestFinished(() => bus.close());
      return bus;
    };
    const url = `amqps://guest:guest@localhost:${port}/`;
    const bus = at(url + asClient(files));
    await bus.publish([{ queue: 'events', key: 1, body: Buffer.from('sealed') }]);
    expect(await bus.depths()).toMatchObject([{ queue: 'events', ready: 1 }]);
    expect(await bus.health()).toMatchObject({ ready: true });
    const wrong = async (text: string) => rejection(at(text).declare());
    expect(await wrong(url)).toMatchObject({ code: 'BROKER_TLS_FAILED' });
    expect(await wrong(url + query({ cacertfile: otherCa }))).toMatchObject({ code: 'BROKER_TLS_FAILED' });
    // The authority is correct, and the client sends no certificate.
    expect(await wrong(url + query({ cacertfile: ca }))).toMatchObject({ code: 'BROKER_TLS_FAILED' });
    const [other] = await freePorts(1);
    const unnamed = createServer((socket) => socket.pipe(connect(port!, '127.0.0.1')).pipe(socket));
    await new Promise<void>((done) => unnamed.listen(other, '127.0.0.2', done));
    onTestFinished(() => void unnamed.close());
    const named = await wrong(`amqps://guest:guest@127.0.0.2:${other}/${asClient(files)}`);
    expect(named).toMatchObject({ code: 'BROKER_TLS_FAILED', message: expect.stringContaining('127.0.0.2') });
  });

  test.skipIf(!redis.installed())('with Redis', async () => {
    const files = await certificates();
    const { ca, otherCa, server } = files;
    const [port] = await freePorts(1);
    const running = await startRedis([
      ...['--tls-port', String(port), '--tls-cert-file', server.cert, '--tls-key-file', server.key],
      ...['--tls-ca-cert-file', ca, '--tls-auth-clients', 'yes'],
    ]);
    onTestFinished(() => running.stop());
    const { db } = await freshDatabase();
    const open = async (url: string) => {
      const cache = await openRedisCache(url, db, silentLog);
      onTestFinished(() => cache.close());
      return cache;
    };
    const url = `rediss://localhost:${port}/0`;
    expect((await open(url + asClient(files))).health()).toMatchObject({ ready: true });
    for (const wrong of [url, url + query({ cacertfile: otherCa })])
      expect(await rejection(open(wrong))).toMatchObject({ code: 'CACHE_TLS_FAILED' });
    // The client sends no certificate. The server closes the connection, and its reason may be lost.
    const unnamed = await open(url + query({ cacertfile: ca })).catch((error: FeedctlError) => error);
    if (unnamed instanceof FeedctlError) expect(unnamed).toMatchObject({ code: 'CACHE_TLS_FAILED' });
    else expect(unnamed.health()).toMatchObject({ ready: false });
    expect(await rejection(open(url + query({ cacertfile: '/nowhere.pem' })))).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('/nowhere.pem'),
    });
  });

  test.skipIf(!redis.installed())('with sentinels and the server that they name', async () => {
    const files = await certificates();
    const { ca, server } = files;
    const [port, sentinelPort] = (await freePorts(2)) as [number, number];
    const tls = [
      ...['--tls-cert-file', server.cert, '--tls-key-file', server.key],
      ...['--tls-ca-cert-file', ca, '--tls-auth-clients', 'yes', '--tls-replication', 'yes'],
    ];
    const running = await startRedis(['--tls-port', String(port), ...tls]);
    onTestFinished(() => running.stop());
    // Sentinels write to this file.
    const config = await file(`requirepass secret\nsentinel monitor feeds 127.0.0.1 ${port} 1\n`);
    const sentinel = await startRedis([config, '--sentinel', '--tls-port', String(sentinelPort), ...tls]);
    onTestFinished(() => sentinel.stop());
    const { db } = await freshDatabase();
    const open = async (name: string, parameters: object) => {
      const url = `rediss+sentinel://localhost:${sentinelPort}/${name}${asClient(files)}`;
      const cache = await openRedisCache(
        url + query(parameters as Record<string, string>).replace('?', '&'),
        db,
        silentLog,
      );
      onTestFinished(() => cache.close());
      return cache;
    };
    const refused = await rejection(open('feeds', { sentinel_tls: 'true', sentinel_password: 'wrong' }));
    expect(refused).toMatchObject({ code: 'CACHE_REFUSED' });
    expect(refused.message).not.toContain('wrong');
    expect(refused.suggestions.join()).toContain('sentinel_password');
    const right = { sentinel_tls: 'true', sentinel_password: 'secret' };
    expect((await open('feeds', right)).health()).toMatchObject({ ready: true });
    expect((await open('feeds', { sentinel_password: 'secret' })).health()).toMatchObject({ ready: false });
  });

  test.skipIf(!redis.installed())('with a Redis Cluster', async () => {
    const files = await certificates();
    const { ca, server } = files;
    const [port, bus] = (await freePorts(2)) as [number, number];
    const node = await startRedis([
      ...['--tls-port', String(port), '--tls-cert-file', server.cert, '--tls-key-file', server.key],
      ...['--tls-ca-cert-file', ca, '--tls-auth-clients', 'yes', '--tls-cluster', 'yes'],
      ...['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--requirepass', 'secret'],
    ]);
    onTestFinished(() => node.stop());
    await redisCommand(node.url.replace('//', '//:secret@'), 'CLUSTER', 'ADDSLOTSRANGE', 0, 16_383);
    const { db } = await freshDatabase();
    const at = `rediss+cluster://:secret@localhost:${port}/${asClient(files)}`;
    const cache = await openRedisCache(at, db, silentLog);
    onTestFinished(() => cache.close());
    await expect.poll(() => cache.health()).toMatchObject({ ready: true });
    const refused = await rejection(openRedisCache(at.replace('secret', 'wrong'), db, silentLog));
    expect(refused).toMatchObject({ code: 'CACHE_REFUSED' });
  });

  test('with PostgreSQL', async () => {
    const { ca, otherCa, server, client } = await certificates();
    const port = await postgresBehindTls({
      cert: readFileSync(server.cert),
      key: readFileSync(server.key),
      ca: readFileSync(ca),
      requestCert: true,
    });
    const { url } = await freshDatabase();
    const name = new URL(url.replace('@/', '@host/')).pathname;
    const at = (mode: string, parameters: Record<string, string> = {}) => {
      const db = new Database(
        `postgres://feedctl@localhost:${port}${name}${query({ sslmode: mode, ...parameters })}`,
      );
      onTestFinished(() => db.close());
      return db;
    };
    const db = at('verify-full', { sslrootcert: ca, sslcert: client.cert, sslkey: client.key });
    // This side reads the socket itself.
    let rows = 0;
    await db.withSession((session) =>
      copyOut(session, 'copy (select generate_series(1, 20000)) to stdout (format binary)', () => {
        rows += 1;
        return undefined;
      }),
    );
    expect(rows).toBe(20_000);
    const listener = await db.listen(['sealed'], { onNotify: () => {} });
    await listener.barrier();
    const wrong = (mode: string, files?: Record<string, string>) => rejection(at(mode, files).ping());
    expect(await wrong('verify-full', { sslrootcert: ca })).toMatchObject({ code: 'DATABASE_TLS_FAILED' });
    expect(await wrong('verify-full', { sslrootcert: otherCa })).toMatchObject({
      code: 'DATABASE_TLS_FAILED',
    });
    expect(await wrong('require')).toMatchObject({ code: 'DATABASE_TLS_FAILED' });
    expect(await wrong('verify-full', { sslrootcert: '/nowhere.pem' })).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('/nowhere.pem'),
    });
  });

  test('a server of PostgreSQL that has none is named', async () => {
    const port = await postgresBehindTls(undefined);
    const db = new Database(`postgres://feedctl@localhost:${port}/feedctl?sslmode=verify-full`);
    onTestFinished(() => db.close());
    expect(await rejection(db.ping())).toMatchObject({ code: 'DATABASE_TLS_FAILED' });
  });

  test('files that are not what they should be are named before anybody connects', async () => {
    const { ca, server, client } = await certificates();
    const why = (parameters: Record<string, string>) => {
      const bad = (text: string) => new FeedctlError('CONFIG_INVALID', text);
      let reason = '';
      const code = codeOf(() =>
        tlsOptions(new URLSearchParams(parameters), (text) => {
          reason = text;
          return bad(text);
        }),
      );
      return `${code}: ${reason}`;
    };
    expect(why({ cacertfile: server.key })).toMatch(/^CONFIG_INVALID: .*cacertfile/);
    expect(why({ certfile: client.cert })).toMatch(/certfile and keyfile together/);
    expect(why({ certfile: client.cert, keyfile: server.key })).toMatch(/do not fit/);
    expect(why({ certfile: await file('no PEM'), keyfile: client.key })).toMatch(/^CONFIG_INVALID/);
    expect(why({ cacertfile: ca, certfile: client.cert, keyfile: client.key })).toBe('undefined: ');
  });
});

/** Puts TLS in front of the test server, which listens on a socket only. Clients of PostgreSQL request it. */
async function postgresBehindTls(
  options: { cert: Buffer; key: Buffer; ca: Buffer; requestCert: boolean } | undefined,
): Promise<number> {
  const directory = /host=(.+)$/.exec(inject('serverUrl'))![1]!;
  const target = `${decodeURIComponent(directory)}/.s.PGSQL.5432`;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    sockets.add(client);
    client.on('error', () => {});
    client.once('data', () => {
      client.write(options ? 'S' : 'N');
      if (!options) return;
      const sealed = new TLSSocket(client, { ...options, isServer: true, rejectUnauthorized: true });
      const upstream = connect(target);
      sealed.on('error', () => upstream.destroy());
      upstream.on('error', () => sealed.destroy());
      sealed.pipe(upstream).pipe(sealed);
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}
