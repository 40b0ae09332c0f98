import { expect, test } from 'vitest';
import { SentVersions } from '../../../src/engine/live/sentVersions.ts';

const post = (version: number) => ({ id: 1, authorId: 2, body: '', createdAt: new Date(), version });

test('an older text waits only as long as a check that read it before the newer one was sent', () => {
  const versions = new SentVersions(400);
  versions.add(post(3), 1_000);
  expect(versions.hasNewerThan(post(2), 1_400)).toBe(true);
  expect(versions.hasNewerThan(post(3), 1_400)).toBe(false);
  // The database went back, and version 2 is the newest one.
  expect(versions.hasNewerThan(post(2), 1_401)).toBe(false);
});
