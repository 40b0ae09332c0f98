import { setTimeout as sleep } from 'node:timers/promises';
import { isFeedctlError, messageOf } from '../model/errors.ts';
import type { Log } from '../telemetry/log.ts';
import { untilTick } from '../util/ticks.ts';
import { applyEvaluation } from './apply.ts';
import type { CelebrityContext } from './change.ts';
import { evaluationIsDue, readCelebrityPolicy, saveEvaluation } from './policy.ts';

const POLL_MS = 5_000;

/**
 * Evaluates celebrities by the cluster's policy, if it is automatic. Every worker checks; the
 * operation's lock lets one of them work. If that worker is killed, another one resumes at its next
 * check. Returns a function that stops it.
 */
export function scheduleEvaluations(
  context: CelebrityContext & { readonly log: Log },
  everyMs: number = POLL_MS,
): () => Promise<void> {
  const { log } = context;
  const stop = new AbortController();
  const { signal } = stop;
  const checking = (async () => {
    while (!signal.aborted) {
      await sleep(untilTick(everyMs), undefined, { signal }).catch(() => {});
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
    await checking;
  };
}

/** Evaluates if the policy is automatic and an evaluation is due. Throws as `applyEvaluation`. */
async function evaluateWhenDue(
  context: CelebrityContext & { readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  const { db, log } = context;
  const { automatic, everySeconds, threshold, releaseAt } = await readCelebrityPolicy(db);
  if (!automatic || !(await evaluationIsDue(db, everySeconds))) return;
  const { marked, unmarked, failed } = await applyEvaluation(context, { threshold, releaseAt }, { signal });
  // At the end: an interrupted evaluation stays due.
  await saveEvaluation(db);
  if (marked + unmarked + failed > 0) log.info({ marked, unmarked, failed }, 'celebrities evaluated');
}
