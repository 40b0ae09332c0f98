import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { FAULTS } from '../faults/index.ts';
import { BUGS } from './bugs.ts';

describe.each(BUGS)('the bug $name', ({ file, replace, by, fault }) => {
  test('has its place in a compiled file, which lacks the bug, and a fault that shows it', () => {
    const text = readFileSync(new URL(`../../../dist/engine/${file}`, import.meta.url), 'utf8');
    expect(text).toContain(replace);
    expect(text).not.toContain(by);
    expect(FAULTS.map(({ name }) => name)).toContain(fault);
  });
});
