import { type History, keyOf } from './history.ts';
import type { Finding } from './rules.ts';

export interface RoundResult {
  readonly fault: string;
  readonly round: number;
  readonly seed: number;
  /** Changes that clients asked for, by what they know of them. */
  readonly operations: {
    readonly attempted: number;
    readonly acknowledged: number;
    readonly unknown: number;
    readonly reads: number;
  };
  /** Posts that sockets received. */
  readonly frames: number;
  /** Longest time without an acknowledged change, from the fault on. */
  readonly stallMs: number;
  readonly faultMs: number;
  /** Time from the end of the fault until posts arrive again through every gateway. */
  readonly recoveryMs: number;
  /** Time from the last request until every feed is right. */
  readonly quietMs: number;
  readonly findings: readonly (Finding & { readonly history: readonly string[] })[];
  readonly unexpectedEnds: readonly string[];
  /** Resident memory of each role in bytes. */
  readonly memory: Readonly<Record<string, number>>;
}

/** Returns the longest time without an acknowledged change since `from`, in milliseconds. */
export function stallOf({ operations }: History, from: number): number {
  const ends = operations
    .filter(({ do: kind, outcome, end }) => kind !== 'read' && outcome === 'ok' && end >= from)
    .map(({ end }) => end)
    .sort((a, b) => a - b);
  let longest = 0;
  let last = from;
  for (const end of ends) {
    longest = Math.max(longest, end - last);
    last = end;
  }
  return longest;
}

const ms = (at: number): string => `${at.toFixed(0).padStart(7)} ms`;

/** Returns what of a history concerns a finding, in the order of time: the pair, the post, and the fault. */
export function sliceOf(history: History, { user, key, other }: Finding): string[] {
  const lines: [number, string][] = history.notes.map(({ at, text }) => [at, `${ms(at)}  -- ${text}`]);
  for (const one of history.operations) {
    const outcome = `${one.outcome}${one.retried ? ', repeated' : ''}`;
    const span = `${ms(one.start)} to ${ms(one.end)}  user ${one.user}`;
    const isOfPost = 'key' in one && key !== undefined && one.key === key;
    const isOfPair =
      'followee' in one && one.user === user && (other === undefined || one.followee === other);
    if (isOfPost) lines.push([one.start, `${span} ${one.do} ${key} (${outcome})`]);
    if (isOfPair) lines.push([one.start, `${span} ${one.do} ${one.followee} (${outcome})`]);
    if (one.do === 'read' && one.user === user && key !== undefined) {
      const shown = one.items.some(({ text }) => keyOf(text) === key) ? 'with' : 'without';
      lines.push([one.start, `${span} page of ${one.limit} ${shown} ${key} (${outcome})`]);
    }
  }
  for (const one of history.received) {
    if (one.user !== user) continue;
    const what = `user ${user} session ${one.session} ${one.kind}`;
    if (one.kind === 'hello') lines.push([one.at, `${ms(one.at)}  ${what} recovered: ${one.recovered}`]);
    else if (one.item && keyOf(one.item.text) === key)
      lines.push([one.at, `${ms(one.at)}  ${what} ${one.item.text}`]);
  }
  return lines.sort(([a], [b]) => a - b).map(([, line]) => line);
}
