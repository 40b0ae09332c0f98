import { render } from 'ink-testing-library';
import { expect, test } from 'vitest';
import { DEMO_STEPS, type DemoResult, type DemoSnapshot } from '../../../src/engine/demo/demo.ts';
import { plainDemo } from '../../../src/ui/demo/plain.ts';
import { STEP_TITLES } from '../../../src/ui/demo/steps.ts';
import { demoSummary } from '../../../src/ui/demo/summary.ts';
import { DemoView } from '../../../src/ui/demo/view.tsx';

/** The demo at a step: those before it have ended, with a result longer than a narrow terminal. */
const snapshotAt = (index: number, change: Partial<DemoSnapshot> = {}): DemoSnapshot => ({
  step: DEMO_STEPS[index]!,
  done: Object.fromEntries(
    DEMO_STEPS.slice(0, index).map((step) => [step, `${'what came of it '.repeat(8)}.`]),
  ),
  posts: 20_000,
  deliveries: 108_437,
  pushed: 9_876,
  recent: [{ readerId: 42, authorId: '7', text: `RT @1\n\u001b[31m${'long '.repeat(60)}` }],
  ...change,
});

const frameOf = (snapshot: DemoSnapshot, width: number, tick = 0): string[] => {
  const { lastFrame, unmount } = render(<DemoView snapshot={snapshot} tick={tick} width={width} />);
  const frame = lastFrame() ?? '';
  unmount();
  return frame.split('\n');
};

// biome-ignore lint/suspicious/noControlCharactersInRegex: colours take no room
const widthOf = (line: string): number => line.replace(/\u001b\[[0-9;]*m/g, '').length;

test.for([40, 80, 200])('at %i columns every step has a frame that fits and is equally high', (width) => {
  const heights = new Set<number>();
  for (const [index, step] of DEMO_STEPS.entries()) {
    for (const fraction of [undefined, 0, 0.5, 1]) {
      const lines = frameOf(snapshotAt(index, fraction === undefined ? {} : { fraction }), width);
      heights.add(lines.length);
      for (const line of lines) expect(widthOf(line), line).toBeLessThanOrEqual(width);
      expect(lines[index]).toContain(STEP_TITLES[step]);
      expect(lines.filter((line) => line.includes('✔')).length).toBe(index);
    }
  }
  expect(heights.size).toBe(1);
});

test('the bar, the counts and the last posts', () => {
  const lines = frameOf(snapshotAt(3, { fraction: 0.5 }), 80);
  expect(lines[3]).toMatch(/█+░+/);
  const text = lines.join('\n');
  expect(text).toContain('20,000 posts   108,437 deliveries   9,876 pushed');
  expect(text).toContain('→ reader 42 sees 7: RT @1 [31mlong');
  expect(frameOf(snapshotAt(3), 80, 1)[3]).not.toBe(frameOf(snapshotAt(3), 80, 2)[3]);
});

test('without a terminal: one line a step, each once', () => {
  const written: string[] = [];
  const view = plainDemo((line) => written.push(line));
  view.update(snapshotAt(0));
  view.update(snapshotAt(2, { done: { start: 'up', seed: 'loaded' } }));
  view.update(snapshotAt(2, { done: { start: 'up', seed: 'loaded' } }));
  view.end();
  expect(written).toEqual(['Start a cluster: up', 'Load who follows whom: loaded']);
});

const RESULT: DemoResult = {
  users: 61_045,
  follows: 77_434,
  posts: 20_020,
  deliveries: 108_437,
  merged: 67,
  pushed: 5_432,
  seconds: 6.1,
  deliveriesPerSecond: 150_000,
  latencyMs: { p50: 100, p95: 200, p99: 300 },
  postToSocketMs: { p50: 5, max: 12 },
  verify: {
    checked: 61_045,
    mismatched: 0,
    users: [],
    missing: 0,
    strangers: 0,
    orphans: 0,
    stale: 0,
    duplicates: 0,
    asymmetric: 0,
    repaired: 0,
    readsMismatched: 0,
    sockets: { expected: 5_432, missing: 0, strangers: 0, duplicates: 0 },
  },
};

test.for([true, false])('the summary says what happened and what was proved (borders: %s)', (borders) => {
  const text = demoSummary(RESULT, { borders });
  for (const part of ['108,437, 150,000/s', '61,045', 'p50 100 ms', 'Every feed is as it should be.'])
    expect(text).toContain(part);
  expect(text.includes('│')).toBe(borders);
});

test('the summary does not gloss over a fault', () => {
  const verify = { ...RESULT.verify, mismatched: 3, readsMismatched: 1 };
  const text = demoSummary({ ...RESULT, verify }, { borders: false });
  expect(text).toContain('3 feeds differ from the truth, 1 read wrongly.');
});
