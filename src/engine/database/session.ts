import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import pg from 'pg';

export const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Ids have 53 bits, and counters stay far below that. So a bigint column becomes a JavaScript
 * number.
 */
const INT8 = 20;
/** A day has no time zone, so it stays text. */
const DATE = 1082;
const parsers: Record<number, (text: string) => unknown> = { [INT8]: Number, [DATE]: String };

/** Converts the columns of every session. */
export const columnTypes: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    (format !== 'binary' && parsers[oid]) ||
    pg.types.getTypeParser(oid, format as 'text')) as typeof pg.types.getTypeParser,
};

/**
 * Detects a network that drops packets silently. Without these settings the server would keep the
 * locks of a lost client for two hours, and a listener would wait as long.
 */
export const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelayMillis: 10_000 } as const;
const SERVER_KEEPS_ALIVE = {
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '4',
  tcp_user_timeout: '30000',
} as const;
/**
 * JIT compilation is on by default. For a statement with thousands of keys it takes longer than the
 * execution.
 */
const NEVER_COMPILED = { jit: 'off' } as const;

/** Returns the `options` of a connection: settings of the server for its session. */
export const sessionOptions = (settings: Readonly<Record<string, string>> = {}): string =>
  Object.entries({ ...SERVER_KEEPS_ALIVE, ...NEVER_COMPILED, ...settings })
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(' ');

interface Wired {
  readonly connection: EventEmitter & { readonly stream: Socket };
}

/**
 * Returns the socket of a session. Destroying it frees a session whose server or network does not
 * answer.
 */
export const socketOf = (session: pg.ClientBase): Socket => (session as unknown as Wired).connection.stream;

/**
 * Closes its socket on errors. The driver leaves it open after a missing password, and the process
 * never ends.
 */
export class SessionClient extends pg.Client {
  constructor(config?: pg.ClientConfig) {
    super(config);
    (this as unknown as Wired).connection.on('error', () => socketOf(this).destroy());
  }
}
