import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { errorsPage } from '../../../scripts/errors.ts';
import { ERRORS } from '../../../src/engine/model/errors.ts';

const root = new URL('../../../', import.meta.url).pathname;
const codes = Object.keys(ERRORS).sort();
const page = readFileSync(join(root, 'docs/errors.md'), 'utf8');
const sections = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section): [string, string] => [section.slice(0, section.indexOf('\n')), section]),
);

test('docs/errors.md is generated from the errors (npm run docs)', () => {
  expect(page).toBe(errorsPage());
});

test('every code has a heading, in order, and every heading is a code', () => {
  expect([...sections.keys()]).toEqual(codes);
});

test('each section says the exit status, the reason and the cure', () => {
  for (const [code, { exit }] of Object.entries(ERRORS)) {
    const section = sections.get(code) ?? '';
    expect(section, code).toContain(`Exit status ${exit}. `);
    expect(section, code).toMatch(/^- \*\*Why:\*\* .{10}/m);
    expect(section, code).toMatch(/^- \*\*Fix:\*\* .{5}/m);
  }
});

test('no line is longer than 120 columns', () => {
  expect(page.split('\n').filter((line) => line.length > 120)).toEqual([]);
});

test('every code is thrown somewhere', () => {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.tsx?$/.test(file))
    .map((file) => readFileSync(join(root, 'src', file), 'utf8'))
    .join('\n');
  const thrown = new Set([...sources.matchAll(/new FeedctlError\(\s*'([A-Z_]+)'/g)].map((match) => match[1]));
  expect(codes.filter((code) => !thrown.has(code))).toEqual([]);
});
