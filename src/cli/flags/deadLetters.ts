import { Args, Flags } from '@oclif/core';
import { FeedctlError } from '../../engine/model/errors.ts';
import { parseId } from '../../engine/model/ids.ts';
import type { DeadLetterFilter } from '../../engine/store/deadLetters.ts';
import { timeFlag } from './common.ts';

/** Filters of all commands for dead letters. */
export const deadLetterFlags = {
  queue: Flags.option({
    options: ['events', 'events.bulk', 'rows.live', 'rows.bulk', 'cleanup', 'live'] as const,
    description: 'only dead letters of this queue; live: those of all gateways',
  })(),
  reason: Flags.string({ description: 'only dead letters whose reason contains this text' }),
  from: timeFlag({ aliases: ['since'], description: 'only dead letters of this time or later' }),
  to: timeFlag({ aliases: ['before'], description: 'only dead letters before this time' }),
};

export const deadLetterArg = Args.string({ description: 'id of the dead letter' });

export function deadLetterFilter(flags: {
  queue?: string | undefined;
  reason?: string | undefined;
  from?: Date | undefined;
  to?: Date | undefined;
}): DeadLetterFilter {
  const { queue, reason, from: since, to: before } = flags;
  return {
    ...(queue !== undefined && { queue }),
    ...(reason !== undefined && { reason }),
    ...(since && { since }),
    ...(before && { before }),
  };
}

/** Returns the dead letters to change. Throws USAGE unless one of an id, a filter and --all is given. */
export function chosenDeadLetters(
  id: string | undefined,
  flags: Parameters<typeof deadLetterFilter>[0] & { all?: boolean },
): DeadLetterFilter {
  const filter = deadLetterFilter(flags);
  const filtered = Object.keys(filter).length > 0;
  const ways = [id !== undefined, filtered, flags.all === true].filter(Boolean).length;
  if (ways !== 1)
    throw new FeedctlError(
      'USAGE',
      ways === 0
        ? 'no dead letters were chosen: pass an id, a filter or --all'
        : 'dead letters were chosen in two ways: pass only one of an id, a filter and --all',
    );
  return id === undefined ? filter : { ids: [parseId(id, 'dead letter')] };
}
