import { readFileSync } from 'node:fs';
import { type Running, start } from '../support/cli.ts';
import type { Link } from './link.ts';

export interface RoleLinks {
  readonly database: readonly Link[];
  readonly broker: readonly Link[];
  readonly cache: readonly Link[];
}

export interface RoleOptions {
  readonly name: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly links: RoleLinks;
  /** Arguments of node, as for a planted bug. */
  readonly node?: readonly string[];
  /** Path of the `bin/run.js` of another release. */
  readonly binary?: string;
}

/** Whether a process ended as the signal asks: a drain ends with status 0. */
const isOrderly = (signal: NodeJS.Signals, status: number | NodeJS.Signals): boolean =>
  status === (signal === 'SIGKILL' ? signal : 0);

/** A worker or a gateway: a process with links to the servers that it shares with no other. */
export class Role {
  readonly name: string;
  readonly links: RoleLinks;
  readonly #options: RoleOptions;
  /** Path of the `bin/run.js` of another release, from the next start on. */
  binary: string | undefined;
  #running: Running | undefined;
  /** The signal that a fault has sent. */
  #endsBy: NodeJS.Signals | undefined;
  /** Ends that no fault has brought about. */
  readonly unexpected: string[] = [];

  constructor(options: RoleOptions) {
    this.name = options.name;
    this.links = options.links;
    this.binary = options.binary;
    this.#options = options;
  }

  get allLinks(): readonly Link[] {
    const { database, broker, cache } = this.links;
    return [...database, ...broker, ...cache];
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Starts the process. Resolves when it has started, ready or not. `change`: for this time only. */
  async start(change: { env?: Record<string, string> } = {}): Promise<void> {
    const { args, env, node } = this.#options;
    const running = start([...args, '--json'], {
      env: { ...env, ...change.env },
      ...(node && { node }),
      ...(this.binary && { binary: this.binary }),
    });
    this.#running = running;
    this.#endsBy = undefined;
    void running.ended.then(({ status, stderr }) => {
      if (this.#running !== running) return;
      this.#running = undefined;
      if (this.#endsBy === undefined || !isOrderly(this.#endsBy, status))
        this.unexpected.push(`${this.name} ended (${status}): ${stderr.slice(-2_000)}`);
    });
    await running.printed(/"ready": (?:true|false)[\s\S]*\n\}\n/);
  }

  /** Ends the process at once. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Ends the process as an orchestrator does: it drains first. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Stops the process without ending it, or continues it. */
  freeze(frozen: boolean): void {
    this.#running?.child.kill(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  /** Resident memory in bytes. */
  get memory(): number {
    if (!this.#running) return 0;
    let status = '';
    try {
      status = readFileSync(`/proc/${this.#running.pid}/status`, 'utf8');
    } catch {
      // The process has just ended.
    }
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1_024;
  }

  get log(): string {
    return this.#running?.stderr() ?? '';
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const running = this.#running;
    if (!running) return;
    this.#endsBy = signal;
    running.child.kill(signal);
    await running.ended;
    this.#running = undefined;
  }
}
