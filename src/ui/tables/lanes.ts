import { type LaneState, laneTroubles } from '../../engine/model/lanes.ts';
import { oneLine } from '../terminal/format.ts';

const WIDTH = 200;

/** One line a paused or throttled lane: state, time, operator, reason, and the command that ends it. */
export const laneNotes = (lanes: readonly LaneState[]): string[] =>
  laneTroubles(lanes).map(
    ({ lane, kind, detail, fix }) => `The ${lane} lane is ${kind} ${oneLine(detail, WIDTH)} (\`${fix}\`)`,
  );
