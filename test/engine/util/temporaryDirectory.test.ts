import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from '../../../src/engine/util/temporaryDirectory.ts';

/** No process has this number. */
const DEAD = 2 ** 30;

test('what killed processes left behind goes at the next start, and nothing else does', async () => {
  const { TMPDIR } = process.env;
  const place = await mkdtemp(join(tmpdir(), 'feedctl-place-'));
  process.env.TMPDIR = place;
  onTestFinished(async () => {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
    await rm(place, { recursive: true, force: true });
  });
  const at = (name: string) => join(place, name);
  const kept = [
    `feedctl-demo-${process.pid}-alive`,
    `feedctl-run-${DEAD}-otherKind`,
    `feedctl-demo-${DEAD}`,
    'precious',
  ];
  const left = at(`feedctl-demo-${DEAD}-left`);
  for (const path of [...kept.map(at), left]) await mkdir(path);
  await writeFile(join(left, 'data'), 'x');
  await writeFile(join(at('precious'), 'data'), 'x');
  await symlink(at('precious'), at(`feedctl-demo-${DEAD}-link`));
  const mine = await temporaryDirectory('demo');
  expect(existsSync(left)).toBe(false);
  for (const name of kept) expect(existsSync(at(name)), name).toBe(true);
  expect(existsSync(join(at('precious'), 'data'))).toBe(true);
  expect((await stat(mine)).mode & 0o777).toBe(0o711);
  expect(await temporaryDirectory('demo')).not.toBe(mine);
  expect(existsSync(mine)).toBe(true);
});
