import { markCelebrity, unmarkCelebrity } from '../../src/engine/celebrities/change.ts';
import { followHandlers } from '../../src/engine/fanout/followHandlers.ts';
import { readFeed } from '../../src/engine/feed/read/read.ts';
import { rebuild } from '../../src/engine/feed/rebuild/rebuild.ts';
import { retire } from '../../src/engine/feed/trim/retire.ts';
import { trim } from '../../src/engine/feed/trim/trim.ts';

/** The parts of the engine in which a test can plant a bug. */
export interface Engine {
  readonly readFeed: typeof readFeed;
  readonly relations: typeof followHandlers;
  readonly trim: typeof trim;
  readonly rebuild: typeof rebuild;
  readonly retire: typeof retire;
  readonly markCelebrity: typeof markCelebrity;
  readonly unmarkCelebrity: typeof unmarkCelebrity;
}

export const engine: Engine = {
  readFeed,
  relations: followHandlers,
  trim,
  rebuild,
  retire,
  markCelebrity,
  unmarkCelebrity,
};
