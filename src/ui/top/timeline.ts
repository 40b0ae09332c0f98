import type { History } from '../../engine/monitoring/top/history.ts';
import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { formatDuration } from '../terminal/format.ts';
import { type Line, span } from './styledText.ts';
import type { Trends } from './trends.ts';
import type { ViewState } from './viewState.ts';

/** A recording that the screen plays. */
export interface Replay {
  readonly history: History;
  readonly trends: Trends;
  /** The file ends within a snapshot. */
  readonly cut: boolean;
}

/** The snapshot that is shown: the one of a time, or else the present one. */
export const snapshotAt = (history: History, at: number | null, present: TopSnapshot): TopSnapshot =>
  at === null ? present : (history.at(at) ?? present);

/** The next time of a recording, and whether it is the last one. */
export function nextTime(history: History, at: number): { at: number; ended: boolean } {
  const { times } = history;
  const following = times.find((time) => time > at);
  return { at: following ?? at, ended: following === undefined || following === times.at(-1) };
}

/** Notes in the first row about the time that is shown. */
export function timeMarks(
  { at }: ViewState,
  shown: TopSnapshot,
  options: { replay: Replay | undefined; nowMs: number; recorded: number | undefined },
): Line[] {
  const { replay, nowMs, recorded } = options;
  if (replay) {
    const { times } = replay.history;
    const place = times.findLastIndex((time) => time <= (at ?? Number.POSITIVE_INFINITY)) + 1;
    return [[span(`REPLAY ${place} of ${times.length}`, 'accent')]];
  }
  const seconds = Math.round((nowMs - Date.parse(shown.takenAt)) / 1_000);
  return [
    ...(recorded === undefined ? [] : [[span(`REC ${recorded}`, 'bad')]]),
    ...(at === null ? [] : [[span(`${formatDuration(seconds)} AGO`, 'warn')]]),
  ];
}
