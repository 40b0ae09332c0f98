import { describe, expect, test } from 'vitest';
import { decodePendingCleanups } from '../../src/engine/fanout/cleaner.ts';
import { decodeEvents, decodeLive } from '../../src/engine/model/messages.ts';
import { decodeRows } from '../../src/engine/model/rowsMessage.ts';
import { Random } from '../properties/random.ts';
import { malformedBody } from './malformed.ts';

describe.each([
  ['feed.events.0', decodeEvents],
  ['feed.rows.live.0', decodeRows],
  ['feed.cleanup', decodePendingCleanups],
  ['feed.live.a', decodeLive],
] as const)('for the queue %s', (queue, decode) => {
  test('no malformed message can be read', () => {
    const random = new Random(7);
    for (let id = 0; id < 300; id += 1) {
      const body = malformedBody(random, queue, id);
      expect(() => decode(body)).toThrow(/the message/);
    }
  });
});
