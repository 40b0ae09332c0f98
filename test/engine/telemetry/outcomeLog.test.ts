import { expect, test } from 'vitest';
import type { Log } from '../../../src/engine/telemetry/log.ts';
import { OutcomeLog } from '../../../src/engine/telemetry/outcomeLog.ts';

function recorded() {
  const lines: [string, object][] = [];
  const log = {
    warn: (fields: object, text: string) => lines.push([text, fields]),
    info: (fields: object, text: string) => lines.push([text, fields]),
  } as unknown as Log;
  let now = 0;
  const outcomes = new OutcomeLog(log, 'sweeper', () => now);
  return { lines, outcomes, after: (ms: number) => (now += ms) };
}

test('an outage is logged when it begins, once a minute, and when it ends', () => {
  const { lines, outcomes, after } = recorded();
  outcomes.worked();
  for (let second = 0; second < 90; second += 1) {
    outcomes.failed('read-only');
    after(1_000);
  }
  outcomes.worked();
  outcomes.worked();
  expect(lines).toEqual([
    ['task failed', { task: 'sweeper', reason: 'read-only', failures: 1 }],
    ['task failed', { task: 'sweeper', reason: 'read-only', failures: 61 }],
    ['task works again', { task: 'sweeper', failures: 90 }],
  ]);
});

test('another reason, and a new outage for the same reason, are logged at once', () => {
  const { lines, outcomes } = recorded();
  outcomes.failed('read-only');
  outcomes.failed('unreachable');
  outcomes.worked();
  outcomes.failed('unreachable');
  expect(lines.map(([text, { reason }]: [string, { reason?: string }]) => [text, reason])).toEqual([
    ['task failed', 'read-only'],
    ['task failed', 'unreachable'],
    ['task works again', undefined],
    ['task failed', 'unreachable'],
  ]);
});
