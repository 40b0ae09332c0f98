import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { schemas } from '../../scripts/schemas.ts';
import { undocumented } from '../support/outputSchemas.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

test('docs/schemas is what the commands return (npm run docs)', { timeout: 400_000 }, () => {
  const made = schemas();
  const files = readdirSync(new URL('../../docs/schemas/', import.meta.url)).map(
    (file) => `docs/schemas/${file}`,
  );
  expect(files.sort()).toEqual([...made.keys()].sort());
  for (const [path, text] of made) expect(read(path), path).toBe(text);
});

test('what a command prints is compared with its schema', () => {
  const trimmed = { users: 1, items: 0, seconds: 0.1 };
  const said = (output: object) => undocumented(['feed', 'trim', '1', '--json'], JSON.stringify(output));
  expect(said(trimmed)).toBeUndefined();
  expect(said({ error: { code: 'USER_NOT_FOUND' } })).toBeUndefined();
  expect(said({ ...trimmed, more: 1 })).toMatch('unevaluated');
  expect(said({ ...trimmed, users: '1' })).toMatch('must be number');
  expect(said({})).toMatch('required');
});
