/** One line of `doctor`: the name of a thing, how it is, and how to fix it where it is not ok. */
export interface Check {
  readonly name: string;
  readonly status: 'ok' | 'warning' | 'fault';
  readonly detail: string;
  readonly fix?: string;
}
