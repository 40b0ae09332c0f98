import { isFeedctlError, messageOf } from './errors.ts';

/** One line of `doctor`. */
export interface Check {
  readonly name: string;
  /** A fault stops posts or endangers them. A warning may become a fault. */
  readonly status: 'ok' | 'warning' | 'fault';
  readonly detail: string;
  /** How to repair it. Missing where the status is ok. */
  readonly fix?: string;
}

/** Returns the fault that an error is. `part`: its name if the error has no code. */
export function faultOf(part: string, error: unknown): Check {
  const fix = isFeedctlError(error) ? error.suggestions[0] : undefined;
  const name = isFeedctlError(error) ? error.code : part;
  return { name, status: 'fault', detail: messageOf(error), ...(fix !== undefined && { fix }) };
}
