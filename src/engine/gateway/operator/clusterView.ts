import type { ClusterSnapshot } from '../routes/clusterSchemas.ts';

/** Minimum age of a snapshot before the next one is taken, for all viewers together. */
const SNAPSHOT_MS = 1_000;
/** The source is closed when no viewer has asked for this long. Viewers ask once a second. */
const IDLE_MS = 15_000;

/** Takes snapshots of the cluster; it holds sessions of the database while it is open. */
export interface SnapshotSource {
  take(): ClusterSnapshot;
  close(): Promise<void>;
}

export type OpenSnapshots = () => Promise<SnapshotSource>;

/**
 * Shows the cluster to operators. Any number of viewers cost one snapshot a second; without a viewer
 * nothing is open.
 */
export class ClusterView {
  readonly #open: OpenSnapshots;
  readonly #idleMs: number;
  #source: Promise<SnapshotSource> | undefined;
  #closing: Promise<unknown> = Promise.resolve();
  #last: { readonly snapshot: ClusterSnapshot; readonly takenAt: number } | undefined;
  #idle: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(open: OpenSnapshots, idleMs = IDLE_MS) {
    this.#open = open;
    this.#idleMs = idleMs;
  }

  /** Throws what opening the source throws; the next call tries again. */
  async snapshot(): Promise<ClusterSnapshot> {
    clearTimeout(this.#idle);
    const source = await this.#opened();
    const now = performance.now();
    if (!this.#last || now - this.#last.takenAt >= SNAPSHOT_MS)
      this.#last = { snapshot: source.take(), takenAt: now };
    clearTimeout(this.#idle);
    // A request that the gateway answers while it closes must not keep the process alive.
    if (!this.#closed) this.#idle = setTimeout(() => void this.#release(), this.#idleMs).unref();
    return this.#last.snapshot;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    await this.#release();
  }

  #opened(): Promise<SnapshotSource> {
    this.#source ??= this.#open();
    const opening = this.#source;
    opening.catch(() => {
      if (this.#source === opening) this.#source = undefined;
    });
    return opening;
  }

  #release(): Promise<unknown> {
    const source = this.#source;
    this.#source = undefined;
    this.#last = undefined;
    const closed = source?.then((open) => open.close()).catch(() => {});
    this.#closing = Promise.all([this.#closing, closed]);
    return this.#closing;
  }
}
