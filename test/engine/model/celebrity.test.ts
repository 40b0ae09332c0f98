import { expect, test } from 'vitest';
import { celebrityChange, celebrityRule, type PushState } from '../../../src/engine/model/celebrity.ts';

test('who is near the threshold stays as they are', () => {
  const rule = celebrityRule(100);
  expect(rule).toEqual({ threshold: 100, releaseAt: 80 });
  const cases: [PushState, number, ReturnType<typeof celebrityChange>][] = [
    ['push', 100, undefined],
    ['push', 101, 'mark'],
    ['push', 81, undefined],
    ['push', 80, undefined],
    ['pull', 101, undefined],
    ['pull', 100, undefined],
    ['pull', 81, undefined],
    ['pull', 80, 'unmark'],
    // State both: the count decides the direction, if it is beyond a limit.
    ['both', 101, 'mark'],
    ['both', 90, undefined],
    ['both', 80, 'unmark'],
  ];
  for (const [state, followers, change] of cases)
    expect(celebrityChange({ state, followers }, rule), `${state} with ${followers}`).toBe(change);
  expect(celebrityChange({ state: 'push', followers: 1 }, celebrityRule(0))).toBe('mark');
  expect(celebrityChange({ state: 'pull', followers: 0 }, celebrityRule(0))).toBe('unmark');
});
