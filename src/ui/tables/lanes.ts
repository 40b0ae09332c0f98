import { type LaneState, laneTroubles } from '../../engine/model/lanes.ts';
import { oneLine } from '../terminal/format.ts';

const WIDTH = 200;

/** A line for each lane that is not left to itself: what was done to it, since when, by whom, why, and what ends it. */
export const laneNotes = (lanes: readonly LaneState[]): string[] =>
  laneTroubles(lanes).map(
    ({ lane, kind, detail, fix: mend }) =>
      `The ${lane} lane is ${kind} ${oneLine(detail, WIDTH)} (\`${mend}\`)`,
  );
