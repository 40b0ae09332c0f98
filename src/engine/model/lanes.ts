/** Lanes of fan-out. `live`: events and rows.live. `bulk`: events.bulk and rows.bulk. */
export const LANES = ['live', 'bulk'] as const;
export type LaneName = (typeof LANES)[number];

interface LaneNote {
  readonly since: Date;
  /** Who, on which machine. */
  readonly by: string;
  readonly reason: string | null;
}

/** How an operator has left a lane of fan-out. */
export interface LaneState {
  readonly lane: LaneName;
  readonly paused: LaneNote | null;
  /** Rows a second of the whole cluster. */
  readonly throttled: (LaneNote & { readonly rowsPerSecond: number }) | null;
}

const laneNoteText = ({ since, by, reason }: LaneNote): string =>
  `since ${since.toISOString()} by ${by}${reason === null ? '' : `: ${reason}`}`;

export interface LaneTrouble {
  readonly lane: LaneName;
  readonly kind: 'PAUSED' | 'THROTTLED';
  /** Since when, by whom and why. */
  readonly detail: string;
  /** The command that ends it. */
  readonly fix: string;
}

/** What was done to lanes that are not left to themselves. */
export function laneTroubles(lanes: readonly LaneState[]): LaneTrouble[] {
  const troubles: LaneTrouble[] = [];
  for (const { lane, paused, throttled } of lanes) {
    if (paused)
      troubles.push({
        lane,
        kind: 'PAUSED',
        detail: laneNoteText(paused),
        fix: `feedctl fanout resume --lane ${lane}`,
      });
    if (throttled)
      troubles.push({
        lane,
        kind: 'THROTTLED',
        detail: `to ${throttled.rowsPerSecond} rows/s ${laneNoteText(throttled)}`,
        fix: `feedctl fanout throttle --lane ${lane} --rate none`,
      });
  }
  return troubles;
}
