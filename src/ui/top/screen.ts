import type { Admin } from './actions.ts';
import type { OrderMemory } from './sorting.ts';
import type { Line } from './styledText.ts';
import type { Trends } from './trends.ts';

export interface Screen {
  readonly width: number;
  readonly height: number;
  /** Changes that the viewer may make. Every frame shows that the viewer may make any. */
  readonly admin: Admin | undefined;
  readonly memory: OrderMemory;
  /** Values of charts. Default: those of the snapshot alone. */
  readonly trends?: Trends | undefined;
  /** Notes in the first row, such as the place in a recording. */
  readonly marks?: readonly Line[];
  /** No other frame follows. */
  readonly still?: true;
}
