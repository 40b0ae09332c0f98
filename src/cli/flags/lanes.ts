import { Flags } from '@oclif/core';
import type { LaneName } from '../../engine/model/lanes.ts';

const ONE_OR_ALL = ['live', 'bulk', 'all'] as const;

/** Has no default: a command that stops all feeds has to name the lane. */
export const laneFlag = Flags.option({
  options: ONE_OR_ALL,
  required: true,
  description:
    'live: new posts; bulk: imports, redispatched events and posts with very many followers; all: both',
})();

export const reasonFlag = Flags.string({ description: 'reason, which status and other commands show' });

export const lanesOf = (lane: (typeof ONE_OR_ALL)[number]): LaneName[] =>
  lane === 'all' ? ['live', 'bulk'] : [lane];
