import type { CelebrityRule } from '../model/celebrity.ts';
import { isFeedctlError, messageOf } from '../model/errors.ts';
import type { OperationCounts } from '../model/operation.ts';
import { runOperation, type Work } from '../operations/run.ts';
import { OperationSteps } from '../operations/steps.ts';
import { type CelebrityContext, type CelebrityDirection, markCelebrity, unmarkCelebrity } from './change.ts';
import { plannedChanges } from './evaluate.ts';

export interface AppliedEvaluation extends CelebrityRule {
  readonly marked: number;
  readonly unmarked: number;
  /** Authors who could not be changed. The next evaluation tries again. */
  readonly failed: number;
  /** First failures, MAX_FAILURES at most. */
  readonly failures: readonly { readonly userId: number; readonly reason: string }[];
}

interface Progress extends AppliedEvaluation {
  /** Author who is being changed: a later run finishes them first. */
  readonly current: { readonly userId: number; readonly action: CelebrityDirection } | null;
}

interface ApplyOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  readonly onResume?: Work['onResume'];
}

const MAX_FAILURES = 20;

/**
 * Marks and unmarks the authors whom the rule concerns, one after the other, as one operation. A run
 * after a crash finishes the author who was being changed, then plans the rest again. Throws
 * OPERATION_RUNNING and the abort reason of the signal.
 */
export function applyEvaluation(
  context: CelebrityContext,
  rule: CelebrityRule,
  options: ApplyOptions = {},
): Promise<AppliedEvaluation> {
  const { db } = context;
  const { signal, onResume } = options;
  const work = { kind: 'celebrity evaluation', key: 'all', signal, onResume };
  return runOperation<Progress, AppliedEvaluation>(db, work, async (run) => {
    const steps = new OperationSteps(db, run, progressOf(rule, run.progress));
    const { current } = steps.progress;
    if (current) await changeAuthor(context, steps, current, signal);
    const { changes } = await plannedChanges(db, rule);
    const total = changes.length;
    for (const [done, { userId, action }] of changes.entries()) {
      // Only here: no author is left in state both.
      run.signal.throwIfAborted();
      await changeAuthor(context, steps, { userId, action }, signal, { done, total, unit: 'authors' });
      options.onProgress?.(done + 1, total);
    }
    const { current: _, ...applied } = steps.progress;
    return applied;
  });
}

/** Returns the progress to begin with. After another rule the counts begin at 0. */
function progressOf(rule: CelebrityRule, earlier: Progress | undefined): Progress {
  if (earlier?.threshold === rule.threshold && earlier.releaseAt === rule.releaseAt) return earlier;
  const current = earlier?.current ?? null;
  return { ...rule, marked: 0, unmarked: 0, failed: 0, failures: [], current };
}

async function changeAuthor(
  context: CelebrityContext,
  steps: OperationSteps<Progress>,
  current: NonNullable<Progress['current']>,
  signal: AbortSignal | undefined,
  counts?: OperationCounts,
): Promise<void> {
  const { userId, action } = current;
  await steps.save({ current }, counts);
  try {
    const change = action === 'mark' ? markCelebrity : unmarkCelebrity;
    await change(context, userId, { signal });
    const count = action === 'mark' ? 'marked' : 'unmarked';
    await steps.save({ [count]: steps.progress[count] + 1, current: null });
  } catch (error) {
    // Another process changes this author, or the user was erased. Other errors concern all authors.
    if (!isFeedctlError(error, 'OPERATION_RUNNING') && !isFeedctlError(error, 'USER_NOT_FOUND')) throw error;
    const { failed, failures } = steps.progress;
    const listed = [...failures, { userId, reason: messageOf(error) }].slice(0, MAX_FAILURES);
    await steps.save({ failed: failed + 1, failures: listed, current: null });
  }
}
