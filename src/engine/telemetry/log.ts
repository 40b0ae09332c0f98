import { FeedctlError } from '../model/errors.ts';

/** What the engine asks of a log: an object of fields, then a message. */
export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/**
 * Structured logs, always on stderr: stdout is the product. Loaded by the roles alone, as commands do not log. Throws
 * CONFIG_INVALID.
 */
export async function openLog(level: string = process.env.FEEDCTL_LOG_LEVEL || 'info'): Promise<Log> {
  if (!LEVELS.includes(level)) {
    throw new FeedctlError(
      'CONFIG_INVALID',
      `FEEDCTL_LOG_LEVEL is ${JSON.stringify(level)}; it may be ${LEVELS.join(', ')}`,
    );
  }
  const { default: pino } = await import('pino');
  const log: Log = pino({ level, base: undefined }, pino.destination({ dest: 2, sync: true }));
  return log;
}

export const silentLog: Log = { info() {}, warn() {}, error() {} };
