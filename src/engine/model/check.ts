/** One line of `doctor`. */
export interface Check {
  readonly name: string;
  /** A fault stops posts or endangers them. A warning may become a fault. */
  readonly status: 'ok' | 'warning' | 'fault';
  readonly detail: string;
  /** How to repair it. Missing where the status is ok. */
  readonly fix?: string;
}
