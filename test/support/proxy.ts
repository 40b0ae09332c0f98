import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/** A road to a database's server that a test can break. */
export interface Proxy {
  readonly url: string;
  /** Lets nothing through, and drops who is on it; `open` again lets everybody through. */
  cut(): void;
  /** Holds back all answers, without a word. */
  stall(): void;
  open(): void;
  /** Keeps all answers until the function that is returned is called, and then passes them on. */
  hold(): () => void;
  /** Who is on it now hears nothing any more, for good, and is not dropped; whoever comes later gets through. */
  strand(): void;
  /** The next statement with this text is done, and its answer lost with its session. Returns whether that happened. */
  loseAnswerTo(text: string): () => boolean;
}

/** Before the server of `url`, which listens on a socket in a directory, or on a port. */
export async function openProxy(url: string): Promise<Proxy> {
  const { hostname, port: at, username: user, pathname, searchParams } = new URL(url.replace('@/', '@none/'));
  const database = pathname.slice(1);
  const directory = searchParams.get('host');
  const target = directory ? { path: `${directory}/.s.PGSQL.5432` } : { host: hostname, port: Number(at) };
  let state: 'open' | 'cut' | 'stalled' = 'open';
  let losing: string | undefined;
  let held: (() => void)[] | undefined;
  const pairs = new Map<Socket, Socket>();
  const stranded = new Set<Socket>();
  const server = createServer((client) => {
    const drop = () => {
      client.destroy();
      upstream.destroy();
      pairs.delete(client);
    };
    const upstream = createConnection(target);
    if (state === 'cut') return drop();
    pairs.set(client, upstream);
    let doomed = false;
    client.on('error', drop).on('close', drop);
    upstream.on('error', drop).on('close', drop);
    client.on('data', (chunk) => {
      if (stranded.has(client)) return;
      if (losing && chunk.includes(losing)) {
        losing = undefined;
        doomed = true;
      }
      upstream.write(chunk);
    });
    // The server says nothing before its statement has ended: what is dropped here is the word that it was committed.
    upstream.on('data', (chunk) => {
      if (doomed) drop();
      else if (held) held.push(() => client.write(chunk));
      else if (state === 'open' && !stranded.has(client)) client.write(chunk);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dropAll = () => {
    for (const [client, upstream] of pairs) {
      client.destroy();
      upstream.destroy();
    }
  };
  onTestFinished(() => {
    dropAll();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return {
    url: `postgres://${user}@127.0.0.1:${port}/${database}`,
    cut() {
      state = 'cut';
      dropAll();
    },
    stall() {
      state = 'stalled';
    },
    open() {
      if (state === 'stalled') dropAll();
      state = 'open';
    },
    strand() {
      for (const client of pairs.keys()) stranded.add(client);
    },
    hold() {
      const kept: (() => void)[] = [];
      held = kept;
      return () => {
        held = undefined;
        for (const passOn of kept) passOn();
      };
    },
    loseAnswerTo(text) {
      losing = text;
      return () => losing === undefined;
    },
  };
}
