import { setTimeout as sleep } from 'node:timers/promises';
import { isFeedctlError, messageOf } from '../model/errors.ts';
import type { Log } from '../telemetry/log.ts';
import { applyEvaluation } from './apply.ts';
import type { CelebrityContext } from './change.ts';
import { evaluationIsDue, readCelebrityPolicy, saveEvaluation } from './policy.ts';

const POLL_MS = 5_000;

/**
 * Evaluates celebrities by the cluster's policy, where that is switched on. All workers look, and the operation's lock
 * lets one of them work; that one killed, the next look of another goes on. Returns how to stop it.
 */
export function scheduleEvaluations(
  context: CelebrityContext & { readonly log: Log },
  lookEveryMs: number = POLL_MS,
): () => Promise<void> {
  const { log } = context;
  const stop = new AbortController();
  const { signal } = stop;
  const looking = (async () => {
    while (!signal.aborted) {
      await sleep(lookEveryMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      try {
        await evaluateWhenDue(context, signal);
      } catch (error) {
        if (!signal.aborted && !isFeedctlError(error, 'OPERATION_RUNNING'))
          log.warn({ reason: messageOf(error) }, 'celebrities were not evaluated');
      }
    }
  })();
  return async () => {
    stop.abort();
    await looking;
  };
}

/** Returns whether it was due. Throws as `applyEvaluation`. */
async function evaluateWhenDue(
  context: CelebrityContext & { readonly log: Log },
  signal: AbortSignal,
): Promise<boolean> {
  const { db, log } = context;
  const { automatic, everySeconds, threshold, releaseAt } = await readCelebrityPolicy(db);
  if (!automatic || !(await evaluationIsDue(db, everySeconds))) return false;
  const { marked, unmarked, failed } = await applyEvaluation(context, { threshold, releaseAt }, { signal });
  // At its end: an evaluation that was cut off is due still.
  await saveEvaluation(db);
  if (marked + unmarked + failed > 0) log.info({ marked, unmarked, failed }, 'celebrities evaluated');
  return true;
}
