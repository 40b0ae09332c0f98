import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/** A proxy to the database server, or to the broker, that a test can break. */
export interface Proxy {
  readonly url: string;
  /** Number of connections so far. */
  connections(): number;
  /** Drops all connections and refuses new ones until `open`. */
  cut(): void;
  /** Leads new connections to another server. */
  leadTo(url: string): void;
  /** Delays all answers without closing connections. */
  stall(): void;
  open(): void;
  /** Delays all answers until the returned function is called. */
  hold(): () => void;
  /** Silences the present connections for ever without closing them. New connections work. */
  strand(): void;
  /** Runs the next statement with this text, and drops its answer and session. Returns whether it ran. */
  loseAnswerTo(text: string): () => boolean;
}

/** Opens a proxy before the server of `url`, which listens on a socket in a directory, or on a port. */
export async function openProxy(url: string): Promise<Proxy> {
  const through = new URL(url.replace('@/', '@none/'));
  const { hostname, port: at, searchParams } = through;
  const directory = searchParams.get('host');
  let target: { path: string } | { host: string; port: number } = directory
    ? { path: `${directory}/.s.PGSQL.5432` }
    : { host: hostname, port: Number(at) };
  let state: 'open' | 'cut' | 'stalled' = 'open';
  let losing: string | undefined;
  let held: (() => void)[] | undefined;
  const pairs = new Map<Socket, Socket>();
  const stranded = new Set<Socket>();
  let connections = 0;
  const server = createServer((client) => {
    connections += 1;
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
    // A server without room for the session must not end the silence.
    const dropUnlessSilent = () => {
      if (state !== 'stalled' && !stranded.has(client)) drop();
    };
    upstream.on('error', dropUnlessSilent).on('close', dropUnlessSilent);
    client.on('data', (chunk) => {
      if (stranded.has(client)) return;
      if (losing && chunk.includes(losing)) {
        losing = undefined;
        doomed = true;
      }
      upstream.write(chunk);
    });
    // The server is silent until its statement ends, so this drops the message of the commit.
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
  through.host = `127.0.0.1:${(server.address() as { port: number }).port}`;
  through.search = '';
  return {
    url: through.href,
    connections: () => connections,
    cut() {
      state = 'cut';
      dropAll();
    },
    leadTo(other) {
      const { hostname: host, port } = new URL(other);
      target = { host, port: Number(port) };
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
