import { Config } from '@oclif/core';
import { expect, test } from 'vitest';
import { TASKS } from '../../src/cli/help.ts';
import { feedctl } from '../support/cli.ts';

test('each command and topic is in one task of the first page', async () => {
  const config = await Config.load({ root: new URL('../..', import.meta.url).pathname, version: '' });
  const shown = config.commands.filter(({ hidden }) => !hidden).map(({ id }) => id.split(':')[0]!);
  expect(Object.values(TASKS).flat().toSorted()).toEqual([...new Set(shown)].sort());
});

test('the first page lists the tasks', async () => {
  const { stdout, status } = await feedctl(['-h']);
  expect(status).toBe(0);
  for (const task of Object.keys(TASKS)) expect(stdout).toMatch(new RegExp(`^${task}$`, 'm'));
  expect(stdout).toMatch(/^ {2}status +Show the components/m);
});
