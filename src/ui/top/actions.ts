import { counted } from '../../engine/model/counted.ts';
import type { TopAction } from '../../engine/monitoring/top/actions.ts';
import type { TopGateway, TopSnapshot, TopWorker } from '../../engine/monitoring/top/snapshot.ts';
import type { QueueRow } from '../../engine/queues/list.ts';
import { lanesOfQueue } from '../../engine/queues/tally.ts';
import type { UserRow } from '../columns/users.ts';
import type { ViewId } from './pane.ts';

/** Changes that the viewer may make with `--admin`. */
export interface Admin {
  /** Name of a production cluster, which the viewer types to confirm a change. */
  readonly production: string | undefined;
  /** Kubernetes is known, which scales the workers. */
  readonly scale: boolean;
}

/** A change that waits for confirmation. */
export interface Question {
  readonly action: TopAction;
  readonly text: string;
}

export type Offer =
  | { readonly kind: 'confirm'; readonly question: Question }
  | { readonly kind: 'ask'; readonly what: NumberPrompt; readonly typed: string }
  | { readonly kind: 'refused'; readonly why: string };

/** Changes that need a number first. */
export type NumberPrompt = 'mark' | 'rebuild' | 'scale';

export const PROMPTS: Record<NumberPrompt, string> = {
  mark: 'Mark or unmark as a celebrity: which user?',
  rebuild: 'Rebuild the feed of which user?',
  scale: 'How many workers?',
};

export const ACTION_KEYS = {
  D: 'drain the worker or gateway',
  P: 'pause or resume the lane of the queue',
  M: 'mark or unmark a celebrity',
  B: 'rebuild a feed',
  S: 'scale the workers (Kubernetes)',
} as const;
export type ActionKey = keyof typeof ACTION_KEYS;

/** The offer of a key for the selected row. */
export function offer(
  key: ActionKey,
  pane: ViewId,
  row: unknown,
  snapshot: TopSnapshot,
  admin: Admin,
): Offer {
  const refused = (why: string): Offer => ({ kind: 'refused', why });
  if (key === 'S')
    return admin.scale
      ? { kind: 'ask', what: 'scale', typed: '' }
      : refused('this cluster is not known to run in Kubernetes: start or drain workers one by one');
  if (key === 'M' || key === 'B') {
    const typed = pane === 'users' && row ? String((row as UserRow).userId) : '';
    return { kind: 'ask', what: key === 'M' ? 'mark' : 'rebuild', typed };
  }
  if (key === 'P') {
    if (pane !== 'queues' || !row) return refused('choose a queue: its lane is paused or resumed');
    return laneOffer(row as QueueRow, snapshot);
  }
  if (pane === 'workers' && row) {
    const { id, host, pid, there, drainable } = row as TopWorker;
    if (!there) return refused('that worker does not run any more');
    if (!drainable) return refused('that worker is part of `feedctl up`, which `feedctl down` stops');
    const others = (snapshot.workers ?? []).filter((one) => one.there && one.id !== id).length;
    const consequence =
      others > 0 ? `${counted(others, 'other continues', 'others continue')}.` : 'NO OTHER RUNS: posts wait.';
    const text = `Drain the worker on ${host}, process ${pid}? ${consequence}`;
    return { kind: 'confirm', question: { action: { kind: 'drain-worker', id }, text } };
  }
  if (pane === 'gateways' && row) {
    const { id, url, sockets } = row as TopGateway;
    const others = (snapshot.gateways ?? []).filter((one) => one.ready && one.id !== id).length;
    const consequence =
      others > 0 ? `${counted(others, 'other takes', 'others take')} them.` : 'NO OTHER IS READY.';
    const open = sockets === null ? 'its sockets' : counted(sockets, 'socket');
    const text = `Drain the gateway ${url} with ${open}? ${consequence}`;
    return { kind: 'confirm', question: { action: { kind: 'drain-gateway', id, url }, text } };
  }
  return refused('choose a worker or a gateway');
}

function laneOffer(row: QueueRow, snapshot: TopSnapshot): Offer {
  const lanes = lanesOfQueue(row.queue);
  if (lanes.length !== 1)
    return { kind: 'refused', why: `${row.queue} belongs to more than one lane, or to none` };
  const lane = lanes[0]!;
  const paused = snapshot.lanes?.find((one) => one.lane === lane)?.paused;
  const text = paused
    ? `Resume the ${lane} lane, paused by ${paused.by}?`
    : `Pause the ${lane} lane: posts wait in its queues until it is resumed?`;
  return { kind: 'confirm', question: { action: { kind: paused ? 'resume' : 'pause', lane }, text } };
}

/** The question about a typed number, or why it is refused. */
export function questionFor(what: NumberPrompt, typed: string, snapshot: TopSnapshot): Offer {
  const number = /^\d{1,16}$/.test(typed) ? Number(typed) : Number.NaN;
  if (!Number.isSafeInteger(number) || (what !== 'scale' && number < 1))
    return {
      kind: 'refused',
      why: `${JSON.stringify(typed)} is not a ${what === 'scale' ? 'number' : 'user id'}`,
    };
  const confirm = (action: TopAction, text: string): Offer => ({
    kind: 'confirm',
    question: { action, text },
  });
  if (what === 'scale')
    return confirm({ kind: 'scale', replicas: number }, `Scale to ${counted(number, 'worker')}?`);
  if (what === 'rebuild')
    return confirm({ kind: 'rebuild', userId: number }, `Rebuild the feed of user ${number}?`);
  const known = snapshot.celebrities?.find(({ userId }) => userId === number);
  return known
    ? confirm({ kind: 'unmark', userId: number }, `Unmark ${number}: write their posts into feeds again?`)
    : confirm(
        { kind: 'mark', userId: number },
        `Mark ${number} as a celebrity: merge their posts when read?`,
      );
}
