/** Lanes of fan-out. `live`: events and rows.live. `bulk`: events.bulk and rows.bulk. */
export const LANES = ['live', 'bulk'] as const;
export type LaneName = (typeof LANES)[number];

interface LaneChange {
  readonly since: Date;
  /** `user@host`. */
  readonly by: string;
  readonly reason: string | null;
}

/** Pause and throttle of a lane, as operators set them. */
export interface LaneState {
  readonly lane: LaneName;
  readonly paused: LaneChange | null;
  /** `rowsPerSecond`: limit of the whole cluster. */
  readonly throttled: (LaneChange & { readonly rowsPerSecond: number }) | null;
}

const changeText = ({ since, by, reason }: LaneChange): string =>
  `since ${since.toISOString()} by ${by}${reason === null ? '' : `: ${reason}`}`;

export interface LaneTrouble {
  readonly lane: LaneName;
  readonly kind: 'PAUSED' | 'THROTTLED';
  /** Time, user and reason of the change. */
  readonly detail: string;
  /** Command that undoes the change. */
  readonly fix: string;
}

/** Returns the lanes that are paused or throttled. */
export function laneTroubles(lanes: readonly LaneState[]): LaneTrouble[] {
  const troubles: LaneTrouble[] = [];
  for (const { lane, paused, throttled } of lanes) {
    if (paused)
      troubles.push({
        lane,
        kind: 'PAUSED',
        detail: changeText(paused),
        fix: `feedctl fanout resume --lane ${lane}`,
      });
    if (throttled)
      troubles.push({
        lane,
        kind: 'THROTTLED',
        detail: `to ${throttled.rowsPerSecond} rows/s ${changeText(throttled)}`,
        fix: `feedctl fanout throttle --lane ${lane} --rate none`,
      });
  }
  return troubles;
}
