import type { Tone } from '../top/styledText.ts';

export type Cell = string | number | null;

/** A table before it is drawn. */
export interface TableData {
  readonly head: readonly string[];
  /** Texts for people. */
  readonly cells: readonly (readonly string[])[];
  /** Values for programs: numbers have no separators and no unit. */
  readonly values: readonly (readonly Cell[])[];
  readonly rightAligned: readonly boolean[];
  readonly tones: readonly (readonly (Tone | undefined)[])[];
}
