import type { AutoscalerState } from '../../engine/kubernetes/autoscaling.ts';
import type { Action, Plan, PlannedObject } from '../../engine/kubernetes/plan.ts';
import type { PodState } from '../../engine/kubernetes/pods.ts';
import type { Rollout } from '../../engine/kubernetes/rollout.ts';
import type { JobState, KubeStatus } from '../../engine/kubernetes/status.ts';
import { formatCount, oneLine } from '../terminal/format.ts';
import { renderTable } from '../terminal/table.ts';

const SIGNS: Record<Action, string> = {
  added: '+',
  changed: '~',
  unchanged: '=',
  replaced: '!',
  unchecked: '+',
  refused: 'x',
};
const VALUE_WIDTH = 80;
const MESSAGE_WIDTH = 100;
const PROBLEM_WIDTH = 400;

/**
 * Returns a plan as a diff: one line per object, then one per field. Unchanged objects are only
 * counted.
 */
export function planLines(plan: Plan, { prune = false }: { prune?: boolean } = {}): string[] {
  const lines = plan.objects.filter(({ action }) => action !== 'unchanged').flatMap(objectLines);
  for (const { kind, name } of plan.leftovers)
    lines.push(`${prune ? '-' : '?'} ${kind}/${name}: no longer in the manifests`);
  const count = (...actions: Action[]) =>
    plan.objects.filter(({ action }) => actions.includes(action)).length;
  const parts = [
    [count('added', 'unchecked'), 'to add'],
    [count('changed'), 'to change'],
    [count('replaced'), 'to replace'],
    [count('unchanged'), 'unchanged'],
    [count('refused'), 'refused'],
    [plan.leftovers.length, prune ? 'to delete' : 'left over (--prune deletes them)'],
  ] as const;
  const summary = parts
    .filter(([number]) => number > 0)
    .map(([number, what]) => `${formatCount(number)} ${what}`);
  lines.push(`${plan.namespace} at ${plan.server}: ${summary.join(', ')}.`);
  if (count('unchecked') > 0)
    lines.push(
      'Objects whose namespace or kind does not exist yet are checked once it exists, before any of ' +
        'them is applied.',
    );
  for (const name of plan.missingSecrets)
    lines.push(
      `The Secret ${name} is missing: pods wait for it. docs/guides/kubernetes.md shows how to create it.`,
    );
  return lines;
}

function objectLines({ kind, name, action, source, fields, problem }: PlannedObject): string[] {
  const fate = action === 'replaced' ? ': deleted and created again' : '';
  const why = problem ? ` (${source}): ${oneLine(problem.message, PROBLEM_WIDTH)}` : fate;
  const head = `${SIGNS[action]} ${kind}/${name}${why}`;
  if (action === 'replaced')
    return [head, ...fields.map(({ path }) => `    ${path} cannot be changed in place`)];
  const value = (text: string | null) => (text === null ? '(none)' : oneLine(text, VALUE_WIDTH));
  return [
    head,
    ...fields.map(({ path, from, to }) => `    ${path}: ${value(from)} -> ${value(to)}`),
    ...(problem?.conflicts ?? []).map(({ field, manager }) => `    ${field} is owned by ${manager}`),
  ];
}

export const rolloutLine = ({ name, desired, updated, available }: Rollout): string =>
  `${name}: ${updated} of ${desired} updated, ${available} available`;

export function statusText(status: KubeStatus, options: { borders: boolean }): string {
  const { deployments, jobs, pods, autoscalers, events } = status;
  const parts = [
    renderTable(
      ['deployment', 'pods', 'updated', 'ready', 'available', 'state'],
      deployments.map((one) => [one.name, one.desired, one.updated, one.ready, one.available, stateOf(one)]),
      options,
    ),
  ];
  if (jobs.length > 0)
    parts.push(
      renderTable(
        ['job', 'failures', 'state'],
        jobs.map((one) => [one.name, one.failures, jobState(one)]),
        options,
      ),
    );
  if (pods.length > 0) parts.push(podsTable(pods, options));
  if (autoscalers.length > 0)
    parts.push(
      renderTable(
        ['autoscaler', 'scales', 'from', 'to', 'pods', 'wanted', 'state'],
        autoscalers.map((one) => [
          `${one.kind}/${one.name}`,
          one.target,
          one.min,
          one.max,
          one.current ?? '',
          one.desired ?? '',
          scalerState(one),
        ]),
        options,
      ),
    );
  if (events.length > 0)
    parts.push(
      renderTable(
        ['warning of', 'reason', 'times', 'message'],
        events.map((one) => [one.object, one.reason, one.count, oneLine(one.message, MESSAGE_WIDTH)]),
        options,
      ),
    );
  parts.push(`${status.namespace} at ${status.server}: ${status.healthy ? 'healthy' : 'NOT HEALTHY'}`);
  return parts.join('\n');
}

/** Returns a table of pods. A pod's name is the host of its worker. */
export const podsTable = (pods: readonly PodState[], options: { borders: boolean }): string =>
  renderTable(
    ['pod', 'phase', 'ready', 'restarts', 'node', 'reason'],
    pods.map((one) => [
      one.name,
      one.phase,
      one.ready ? 'yes' : 'no',
      one.restarts,
      one.node ?? '',
      whyOf(one),
    ]),
    options,
  );

const stateOf = ({ done, stuck }: Rollout): string =>
  done ? 'rolled out' : stuck ? `STUCK: ${stuck}` : 'rolling out';

const jobState = ({ state, reason }: JobState): string =>
  state === 'failed' ? `FAILED: ${oneLine(reason ?? '', MESSAGE_WIDTH)}` : state;

const whyOf = ({ reason, message }: PodState): string =>
  reason === null ? '' : oneLine(message ? `${reason}: ${message}` : reason, MESSAGE_WIDTH);

function scalerState({ problems, paused, pausedAt }: AutoscalerState): string {
  const pause = paused ? [pausedAt === null ? 'paused' : `paused at ${pausedAt}`] : [];
  return [...pause, ...problems.map((one) => oneLine(one, MESSAGE_WIDTH))].join('; ') || 'active';
}
