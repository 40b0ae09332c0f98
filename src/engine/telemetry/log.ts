import { FeedctlError } from '../model/errors.ts';

/** A structured log. Each method takes an object of fields, then a message. */
export interface Log {
  /** Defined at level `debug` alone: at other levels `log.debug?.(…)` does not evaluate its arguments. */
  readonly debug?: ((fields: object, message: string) => void) | undefined;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/**
 * Opens a log on stderr: stdout carries the product. Only roles load the library, because commands do
 * not log. Throws CONFIG_INVALID.
 */
export async function openLog(level: string): Promise<Log> {
  if (!LEVELS.includes(level)) {
    throw new FeedctlError(
      'CONFIG_INVALID',
      `the log level (FEEDCTL_LOG_LEVEL) is ${JSON.stringify(level)}; it must be one of ${LEVELS.join(', ')}`,
    );
  }
  const { default: pino } = await import('pino');
  const log = pino({ level, base: undefined }, pino.destination({ dest: 2, sync: true }));
  return {
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
    ...(log.isLevelEnabled('debug') && {
      debug: (fields: object, message: string) => log.debug(fields, message),
    }),
  };
}

export const silentLog: Log = { info() {}, warn() {}, error() {} };
