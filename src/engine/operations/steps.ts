import type { Database } from '../database/database.ts';
import type { OperationCounts } from '../model/operation.ts';
import { type Operation, saveProgress } from './run.ts';

/** Names of the steps that a progress lists. */
type StepOf<Progress> = Progress extends { readonly steps: readonly (infer Step)[] } ? Step : never;

/**
 * Progress of one run of an operation, saved with each change: a later run resumes from it. Steps
 * that are in `progress.steps` are finished, and a later run skips them.
 */
export class OperationSteps<Progress extends object> {
  readonly signal: AbortSignal;
  readonly #db: Database;
  readonly #operationId: number;
  readonly #countsOf: ((progress: Progress) => OperationCounts) | undefined;
  #progress: Progress;

  /** `countsOf`: numbers that operators see whenever the progress is saved. */
  constructor(
    db: Database,
    run: Pick<Operation<Progress>, 'id' | 'signal'>,
    progress: Progress,
    countsOf?: (progress: Progress) => OperationCounts,
  ) {
    this.signal = run.signal;
    this.#db = db;
    this.#operationId = run.id;
    this.#progress = progress;
    this.#countsOf = countsOf;
  }

  get progress(): Progress {
    return this.#progress;
  }

  /** Changes the progress and saves it. */
  async save(changes: Partial<Progress>, counts?: OperationCounts): Promise<void> {
    this.#progress = { ...this.#progress, ...changes };
    await saveProgress(
      this.#db,
      this.#operationId,
      this.#progress,
      counts ?? this.#countsOf?.(this.#progress),
    );
  }

  /**
   * Does a step that is not finished, and saves that it is. Throws the abort reason of the signal, and
   * the errors of `work`.
   */
  async step(name: StepOf<Progress>, work: () => unknown): Promise<void> {
    const finished = (this.#progress as { readonly steps?: readonly unknown[] }).steps ?? [];
    if (finished.includes(name)) return;
    this.signal.throwIfAborted();
    await work();
    await this.save({ steps: [...finished, name] } as unknown as Partial<Progress>);
  }
}
