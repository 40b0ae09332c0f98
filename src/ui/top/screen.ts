import type { Admin } from './actions.ts';
import type { OrderMemory } from './sorting.ts';

export interface Screen {
  readonly width: number;
  readonly height: number;
  /** Changes that the viewer may make. Every frame shows that the viewer may make any. */
  readonly admin: Admin | undefined;
  readonly memory: OrderMemory;
  /** No other frame follows. */
  readonly still?: true;
}
