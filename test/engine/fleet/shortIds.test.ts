import { expect, test } from 'vitest';
import { byShortId } from '../../../src/engine/fleet/shortIds.ts';

const ids = ['941e5e23-dfa4', '941e5e23-dfb4', '10c0ffee-0000'];
const rows = ids.map((id) => ({ id }));
const found = (text: string) => byShortId(rows, text, 'worker').id;

test('an id, or a beginning that only one id has', () => {
  expect(found('941e5e23-dfa4')).toBe(ids[0]);
  expect(found('10c0')).toBe(ids[2]);
  expect(found('941E5E23-DFB')).toBe(ids[1]);
});

test('a beginning of several names them', () => {
  expect(() => found('941e5e23')).toThrow('2 workers begin with 941e5e23: 941e5e23-dfa4, 941e5e23-dfb4');
});

test.for(['10c', '', 'ffff', '10c0ffee-00001'])('%j is none', (text) => {
  expect(() => byShortId(rows, text, 'gateway')).toThrow(`there is no gateway ${text}`);
});
