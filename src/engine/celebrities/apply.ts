import type { CelebrityRule } from '../model/celebrity.ts';
import { isFeedctlError, messageOf } from '../model/errors.ts';
import { type Operation, runOperation, saveProgress, type Work } from '../operations/run.ts';
import { type CelebrityContext, type CelebrityDirection, markCelebrity, unmarkCelebrity } from './change.ts';
import { plannedChanges } from './evaluate.ts';

export interface AppliedEvaluation extends CelebrityRule {
  readonly marked: number;
  readonly unmarked: number;
  /** Authors who could not be changed: the next evaluation tries again. */
  readonly failed: number;
  /** Of the first of them. */
  readonly failures: readonly { readonly userId: number; readonly reason: string }[];
}

interface Progress extends AppliedEvaluation {
  /** Who is being changed: finished first by whoever goes on. */
  readonly current: { readonly userId: number; readonly action: CelebrityDirection } | null;
}

interface ApplyOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  readonly onResume?: Work['onResume'];
}

const MAX_FAILURES = 20;

/**
 * Marks and unmarks those whom the rule concerns, one after the other, as one operation: whoever goes on after a crash
 * finishes the author who was being changed and looks anew at who is left. Throws OPERATION_RUNNING, and what the signal
 * was aborted with.
 */
export function applyEvaluation(
  context: CelebrityContext,
  rule: CelebrityRule,
  options: ApplyOptions = {},
): Promise<AppliedEvaluation> {
  const { signal, onResume } = options;
  const work = { kind: 'celebrity evaluation', key: 'all', signal, onResume };
  return runOperation<Progress, AppliedEvaluation>(context.db, work, async (run) => {
    const changing = new Changing(context, run, rule, options);
    await changing.finishCurrent();
    const { changes } = await plannedChanges(context.db, rule);
    for (const [done, { userId, action }] of changes.entries()) {
      // Told to end, it ends between two authors: none is left half way.
      run.signal.throwIfAborted();
      await changing.change(userId, action, { done, total: changes.length });
      options.onProgress?.(done + 1, changes.length);
    }
    const { current: _, ...applied } = changing.progress;
    return applied;
  });
}

class Changing {
  readonly #context: CelebrityContext;
  readonly #operationId: number;
  readonly #options: ApplyOptions;
  progress: Progress;

  constructor(
    context: CelebrityContext,
    run: Operation<Progress>,
    rule: CelebrityRule,
    options: ApplyOptions,
  ) {
    this.#context = context;
    this.#operationId = run.id;
    this.#options = options;
    const before = run.progress;
    const nothing = { marked: 0, unmarked: 0, failed: 0, failures: [], current: before?.current ?? null };
    const goesOn = before?.threshold === rule.threshold && before.releaseAt === rule.releaseAt;
    this.progress = goesOn ? before : { ...rule, ...nothing };
  }

  async finishCurrent(): Promise<void> {
    const { current } = this.progress;
    if (current) await this.change(current.userId, current.action);
  }

  async change(
    userId: number,
    action: CelebrityDirection,
    counts?: { done: number; total: number },
  ): Promise<void> {
    await this.#note({ current: { userId, action } }, counts);
    const { signal } = this.#options;
    try {
      const change = action === 'mark' ? markCelebrity : unmarkCelebrity;
      await change(this.#context, userId, { signal });
      const count = action === 'mark' ? 'marked' : 'unmarked';
      await this.#note({ [count]: this.progress[count] + 1, current: null });
    } catch (error) {
      // Somebody else is changing this author, or they are gone; everything else concerns all of them.
      if (!isFeedctlError(error, 'OPERATION_RUNNING') && !isFeedctlError(error, 'USER_NOT_FOUND'))
        throw error;
      const { failed, failures } = this.progress;
      const listed = [...failures, { userId, reason: messageOf(error) }].slice(0, MAX_FAILURES);
      await this.#note({ failed: failed + 1, failures: listed, current: null });
    }
  }

  async #note(progress: Partial<Progress>, counts?: { done: number; total: number }): Promise<void> {
    this.progress = { ...this.progress, ...progress };
    const { db } = this.#context;
    await saveProgress(db, this.#operationId, this.progress, counts && { ...counts, unit: 'authors' });
  }
}
