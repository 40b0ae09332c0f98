import { depthOf, messagesIn } from '../bus/depths.ts';
import { saveProgress } from '../operations/run.ts';
import type { SocialContext } from '../social/context.ts';
import { runRows } from '../store/runs.ts';
import type { RowsOwed } from './rowsOwed.ts';

const REPORT_INTERVAL_MS = 250;
/** Every fourth report is saved with the operation. */
const REPORTS_A_SAVE = 4;
/** Queues that an import waits for. */
const QUEUES = ['events', 'events.bulk', 'rows.live', 'rows.bulk'];

export interface ImportProgress {
  /**
   * `checking`: the file is read. `posting`: posts are stored, and few or no feeds get them. `delivering`:
   * feeds get rows, from the first post to the last row. `waiting`: workers handle messages of other work.
   */
  readonly phase: 'checking' | 'posting' | 'delivering' | 'waiting';
  /** Rows of the file that are read, or posts that are stored. */
  readonly posts: number;
  /** 0: not known. */
  readonly totalPosts: number;
  /** Feed rows that are written, and those that are owed. */
  readonly rows: number;
  readonly owed: number;
  /** Messages that the import waits for now, and the most so far. */
  readonly messages: number;
  readonly mostMessages: number;
}

/** Progress that a later run resumes from. */
export interface ImportSaved {
  /** Posts of the source that are stored. */
  readonly rows: number;
  /** Feed rows that were written for the import. */
  readonly feedRows?: number;
}

/** Returns the progress of reading a file. */
export const checking = (posts: number): ImportProgress => ({
  phase: 'checking',
  posts,
  totalPosts: 0,
  rows: 0,
  owed: 0,
  messages: 0,
  mostMessages: 0,
});

interface Subject {
  readonly operationId: number;
  readonly importId: number;
  readonly saved: ImportSaved | undefined;
  readonly totalPosts: number;
  readonly owed: RowsOwed;
  readonly onProgress: ((progress: ImportProgress) => void) | undefined;
}

/** Reports and saves how far an import is, from its first post to its last row. */
export class ImportReport {
  readonly #context: SocialContext;
  readonly #subject: Subject;
  /** Rows of earlier runs. */
  readonly #earlier: number;
  #posts: number;
  #rows: number;
  #messages = 0;
  #mostMessages = 0;
  /** Messages of other work are in front of the first post. */
  #isBehind = false;
  #ended = false;
  #reports = 0;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> | undefined;
  #saving: Promise<void> = Promise.resolve();

  constructor(context: SocialContext, subject: Subject) {
    this.#context = context;
    this.#subject = subject;
    this.#posts = subject.saved?.rows ?? 0;
    this.#earlier = subject.saved?.feedRows ?? 0;
    this.#rows = this.#earlier;
  }

  async start(): Promise<void> {
    this.#messages = await this.#countMessages();
    this.#isBehind = this.#messages > 0;
    this.#timer = setInterval(() => {
      this.#reading ??= this.#report()
        .catch(() => {})
        .finally(() => {
          this.#reading = undefined;
        });
    }, REPORT_INTERVAL_MS);
  }

  /** Waits for a report that is being written. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#reading;
  }

  /** Saves that the posts of the source up to this one are stored. */
  async posted(posts: number): Promise<void> {
    this.#posts = posts;
    await this.#save();
    this.#show();
  }

  /** Saves the last counts: every row is written. */
  async end(): Promise<void> {
    await this.stop();
    await this.#readRows();
    this.#ended = true;
    this.#messages = 0;
    await this.#save();
    this.#show();
  }

  async #report(): Promise<void> {
    await this.#readRows();
    this.#reports += 1;
    if (this.#reports % REPORTS_A_SAVE === 0) await this.#save();
    this.#messages = this.#waits ? await this.#countMessages() : 0;
    this.#show();
  }

  async #readRows(): Promise<void> {
    this.#rows = this.#earlier + (await runRows(this.#context.db, this.#subject.importId));
  }

  async #countMessages(): Promise<number> {
    const depths = await this.#context.bus.depths();
    return QUEUES.reduce((sum, queue) => sum + messagesIn(depthOf(depths, queue)), 0);
  }

  get #owed(): number {
    return this.#ended ? this.#rows : Math.max(this.#earlier + this.#subject.owed.rows, this.#rows);
  }

  /** Too few rows to tell how far the import is. */
  get #hasFewRows(): boolean {
    return this.#owed < this.#subject.totalPosts;
  }

  get #waits(): boolean {
    if (this.#isBehind && this.#rows === this.#earlier) return true;
    return this.#posts === this.#subject.totalPosts && (this.#hasFewRows || this.#rows >= this.#owed);
  }

  get #phase(): ImportProgress['phase'] {
    if (this.#messages > 0 && this.#waits) return 'waiting';
    if (this.#hasFewRows) return 'posting';
    return this.#rows > this.#earlier || this.#posts === this.#subject.totalPosts ? 'delivering' : 'posting';
  }

  #show(): void {
    const phase = this.#phase;
    this.#mostMessages = phase === 'waiting' ? Math.max(this.#mostMessages, this.#messages) : 0;
    this.#subject.onProgress?.({
      phase,
      posts: this.#posts,
      totalPosts: this.#subject.totalPosts,
      rows: this.#rows,
      owed: this.#owed,
      messages: this.#messages,
      mostMessages: this.#mostMessages,
    });
  }

  /** Saves one after the other, so that an older state never replaces a newer one. */
  #save(): Promise<void> {
    this.#saving = this.#saving.catch(() => {}).then(() => this.#write());
    return this.#saving;
  }

  #write(): Promise<void> {
    const { operationId, totalPosts } = this.#subject;
    const [posts, rows] = [this.#posts, this.#rows];
    const counts = this.#hasFewRows
      ? { done: posts, total: totalPosts, unit: 'posts' }
      : { done: rows, total: this.#owed, unit: 'rows' };
    const saved: ImportSaved = { rows: posts, feedRows: rows };
    return saveProgress(this.#context.db, operationId, saved, counts);
  }
}
