import pino from 'pino';

export type Log = pino.Logger;

/** Structured logs, always on stderr: stdout is the product. */
export function openLog(level: string = process.env.FEEDCTL_LOG_LEVEL ?? 'info'): Log {
  return pino({ level, base: undefined }, pino.destination({ dest: 2, sync: true }));
}

export const silentLog: Log = pino({ level: 'silent' });
