import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  firstIdAt,
  IdMint,
  IMPORT_NODE,
  IMPORT_SECONDS,
  IMPORTS_PER_SECOND,
  importedId,
  MAX_ID,
  type NodeLease,
  parseId,
  timeOfId,
} from '../../../src/engine/model/ids.ts';
import { codeOf } from '../../support/codes.ts';

const START = Date.UTC(2030, 0, 1);
/** Ids of one millisecond and node. */
const SEQUENCES = 64;
const MAX_AHEAD_MS = 50;

class Clock {
  ms = START;
  readonly now = () => this.ms;
}

function mint(lease: Partial<NodeLease> = {}): { clock: Clock; mint: IdMint } {
  const clock = new Clock();
  const whole = { node: 5, fromMs: START, untilMs: () => START + 3_600_000, ...lease };
  return { clock, mint: new IdMint(whole, clock.now) };
}

function drain(source: IdMint): number[] {
  const ids: number[] = [];
  for (let id = source.tryNext(); id !== undefined; id = source.tryNext()) ids.push(id);
  return ids;
}

const rising = (ids: number[]) => ids.every((id, i) => i === 0 || id > ids[i - 1]!);

describe('minted ids', () => {
  test('rise and are safe integers, whatever the clock does', () => {
    const steps = fc.array(fc.record({ move: fc.integer({ min: -200, max: 200 }), ids: fc.nat(100) }));
    fc.assert(
      fc.property(steps, fc.nat(IMPORT_NODE - 1), (moves, node) => {
        const { clock, mint: source } = mint({ node });
        const ids: number[] = [];
        for (const { move, ids: count } of moves) {
          clock.ms += move;
          for (let i = 0; i < count; i += 1) {
            const id = source.tryNext();
            if (id === undefined) break;
            expect(timeOfId(id) - clock.ms).toBeLessThanOrEqual(MAX_AHEAD_MS);
            ids.push(id);
          }
        }
        expect(rising(ids)).toBe(true);
        expect(ids.every((id) => Number.isSafeInteger(id) && id > 0)).toBe(true);
      }),
    );
  });

  test('of two nodes never meet', () => {
    const one = drain(mint({ node: 1 }).mint);
    const two = drain(mint({ node: 2 }).mint);
    expect(new Set([...one, ...two]).size).toBe(one.length + two.length);
  });

  test('a burst runs ahead of the clock by 50 ms and no further', () => {
    const { clock, mint: source } = mint();
    expect(drain(source)).toHaveLength((MAX_AHEAD_MS + 1) * SEQUENCES);
    expect(source.aheadMs).toBe(MAX_AHEAD_MS);
    clock.ms += 1;
    expect(drain(source)).toHaveLength(SEQUENCES);
  });

  test('a clock that goes back mints on from where it was, within the allowance', () => {
    const { clock, mint: source } = mint();
    const before = source.tryNext()!;
    clock.ms -= MAX_AHEAD_MS;
    expect(source.tryNext()).toBeGreaterThan(before);
    clock.ms -= 1;
    expect(source.tryNext()).toBeUndefined();
    clock.ms += 1;
    expect(source.tryNext()).toBeGreaterThan(before);
  });

  test('none is past the end of the lease, and a renewal lets it go on', () => {
    let untilMs = START + 2;
    const { clock, mint: source } = mint({ untilMs: () => untilMs });
    const ids = drain(source);
    expect(ids).toHaveLength(3 * SEQUENCES);
    expect(timeOfId(ids.at(-1)!)).toBe(untilMs);
    clock.ms = untilMs + 1;
    expect(source.tryNext()).toBeUndefined();
    untilMs = START + 10;
    expect(timeOfId(source.tryNext()!)).toBe(START + 3);
  });

  test('none is before the start of the lease', () => {
    expect(timeOfId(mint({ fromMs: START + 20 }).mint.tryNext()!)).toBe(START + 20);
    const { clock, mint: source } = mint({ fromMs: START + MAX_AHEAD_MS + 1 });
    expect(source.tryNext()).toBeUndefined();
    clock.ms += 1;
    expect(timeOfId(source.tryNext()!)).toBe(START + MAX_AHEAD_MS + 1);
  });

  test('last until 2079', () => {
    expect(firstIdAt(Date.UTC(2079, 0, 1))).toBeLessThan(MAX_ID);
    expect(timeOfId(firstIdAt(START))).toBe(START);
    expect(new Date(timeOfId(MAX_ID)).getUTCFullYear()).toBe(2079);
  });
});

describe('imported ids', () => {
  const second = fc.integer(IMPORT_SECONDS);
  const rank = fc.nat(IMPORTS_PER_SECOND - 1);

  test('are one to one with second and rank, ordered like them, and safe', () => {
    fc.assert(
      fc.property(second, rank, second, rank, (s1, r1, s2, r2) => {
        const [one, two] = [importedId(s1, r1), importedId(s2, r2)];
        expect(Math.sign(one - two)).toBe(Math.sign(s1 - s2 || r1 - r2));
        expect(Number.isSafeInteger(one) && one > 0).toBe(true);
        expect(Math.floor(timeOfId(one) / 1000)).toBe(s1);
      }),
    );
  });

  test('a full second holds as many ids as it says', () => {
    const at = Math.floor(START / 1000);
    const ids = Array.from({ length: IMPORTS_PER_SECOND }, (_, i) => importedId(at, i));
    expect(rising(ids)).toBe(true);
    expect(ids.at(-1)).toBeLessThan(importedId(at + 1, 0));
  });

  test('never meet a minted one of the same time', () => {
    const minted = new Set<number>();
    for (let node = 0; node < IMPORT_NODE; node += 1)
      for (const id of drain(mint({ node, untilMs: () => START }).mint)) minted.add(id);
    expect(minted.size).toBe(IMPORT_NODE * SEQUENCES);
    for (let i = 0; i < SEQUENCES; i += 1) expect(minted.has(importedId(START / 1000, i))).toBe(false);
  });
});

describe('an id that was typed', () => {
  test('is read as it is', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (id) => {
        fc.pre(id > 0);
        expect(parseId(String(id), 'user')).toBe(id);
      }),
    );
  });

  test.each([
    '',
    '0',
    '-1',
    '+1',
    '1.0',
    '1e3',
    '0x10',
    ' 1',
    '1 ',
    '9007199254740992',
    '99999999999999999',
    '١',
  ])('%j is refused', (text) => {
    expect(codeOf(() => parseId(text, 'user'))).toBe('INVALID_ID');
  });
});
