import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { formatDuration, oneLine } from '../terminal/format.ts';
import type { AnyPane } from './pane.ts';
import { type Line, span } from './styledText.ts';

/** Sources that change every second are stale after this. A slow source is read less often, so it may be. */
const STALE_AFTER_MS = 6_000;
const FAST: readonly string[] = ['figures', 'queues'];

/** Age of the answer of a source that fails or is late, such as `12 s ago`. */
export function staleText({ sources }: TopSnapshot, name: string): string | undefined {
  const { error, ageMs = null } = sources.find((source) => source.name === name) ?? {};
  if (ageMs === null || !(error || (FAST.includes(name) && ageMs > STALE_AFTER_MS))) return undefined;
  return `${wholeSeconds(ageMs)} ago`;
}

/** `12 s`, `3 m 05 s`: tenths of a second would only flicker. */
const wholeSeconds = (ms: number): string => formatDuration(Math.round(ms / 1_000)).replace(/\.0 s$/, ' s');

/** A row above a pane whose source fails: why, and how old the rows are. */
export function sourceWarning({ sources }: TopSnapshot, pane: AnyPane): Line[] {
  const source = sources.find(({ name }) => name === pane.source);
  if (!source?.error) return [];
  const age = source.ageMs === null ? 'never answered' : `as of ${wholeSeconds(source.ageMs)} ago`;
  return [[span(`! ${age}: ${oneLine(source.error.message, 200)}`, 'warn')]];
}
