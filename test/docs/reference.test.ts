import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { reference } from '../../scripts/reference.ts';

test('docs/cli is the help of the commands (npm run docs)', async () => {
  const pages = await reference();
  const files = readdirSync(new URL('../../docs/cli/', import.meta.url)).map((file) => `docs/cli/${file}`);
  expect(files.sort()).toEqual([...pages.keys()].sort());
  for (const [path, text] of pages)
    expect(readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8'), path).toBe(text);
});
