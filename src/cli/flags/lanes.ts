import { Flags } from '@oclif/core';
import type { LaneName } from '../../engine/model/lanes.ts';

const ONE_OR_ALL = ['live', 'bulk', 'all'] as const;

/** Never by default: what every feed waits for is named. */
export const laneFlag = Flags.option({
  options: ONE_OR_ALL,
  required: true,
  description: 'live: posts made now. bulk: imports, redispatched events and posts to very many. Or both',
})();

export const reasonFlag = Flags.string({ description: 'why, for whoever looks at it next' });

export const lanesOf = (lane: (typeof ONE_OR_ALL)[number]): LaneName[] =>
  lane === 'all' ? ['live', 'bulk'] : [lane];
