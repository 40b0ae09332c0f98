import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const ROOT = new URL('../../', import.meta.url);
const page = readFileSync(new URL('docs/explanation/threat-model.md', ROOT), 'utf8');

/** Returns the lines of a section, with continued lines joined. */
function section(name: string): string[] {
  const text = page.split(/^## /m).find((one) => one.startsWith(`${name}\n`))!;
  return text.replace(/\n {2,}(?=\S)/g, ' ').split('\n');
}

/** Titles of the tests in a file. */
function titlesIn(source: string): string[] {
  const title = /\btest(?:\.\w+)*(?:\((?:[^()'"`]|\([^()]*\))*\))?\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g;
  return [...source.matchAll(title)].map(([, , text]) => text!);
}

const threats = section('Threats')
  .filter((line) => line.startsWith('| ') && !/^\| (threat|---) /.test(line))
  .map((line) => line.split('|').map((cell) => cell.trim()));
const tests = section('Tests').flatMap((line) => {
  const [, number, path, name] = /^(\d+)\. `(\S+)`: (.*)$/.exec(line) ?? [];
  return number ? [{ number: Number(number), path: path!, name: name! }] : [];
});

test('each threat has an answer and a test, and each test is of a threat', () => {
  expect(threats.length).toBeGreaterThan(30);
  const used = new Set<number>();
  for (const [, threat, answer, numbers] of threats) {
    expect(answer, threat).not.toBe('');
    expect(numbers, threat).toMatch(/^\d+(, \d+)*$/);
    for (const number of numbers!.split(', ').map(Number)) used.add(number);
  }
  expect(tests.map(({ number }) => number)).toEqual(tests.map((_, i) => i + 1));
  expect([...used].sort((a, b) => a - b)).toEqual(tests.map(({ number }) => number));
  const attackers = new Set(threats.map(([, threat]) => threat!.split(':')[0]));
  for (const attacker of ['anonymous', 'user', "operator's key", 'neighbour', 'dependency'])
    expect(attackers).toContain(attacker);
});

test.each(tests)('there is the test $number of the threat model', ({ path, name }) => {
  const file = new URL(`test/${path}`, ROOT);
  expect(existsSync(file), path).toBe(true);
  expect(titlesIn(readFileSync(file, 'utf8')), path).toContain(name);
});

test('titles are read as they are spelt', () => {
  const source = [
    "test('one', () => {});",
    'test.skipIf(!installed())(\n  "it\'s two", async () => {});',
    "test.each([1])('three $n', { timeout: 1 }, () => {});",
    "expect('four').toBe(1);",
  ].join('\n');
  expect(titlesIn(source)).toEqual(['one', "it's two", 'three $n']);
});
