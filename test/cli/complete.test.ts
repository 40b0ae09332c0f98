import { Config } from '@oclif/core';
import { expect, test } from 'vitest';
import { completions } from '../../src/cli/completion/complete.ts';

const { commands } = await Config.load({ root: new URL('../..', import.meta.url).pathname, version: '' });
const complete = (...words: string[]) =>
  completions(commands, words, {
    contexts: async () => ['local', 'prod'],
    queues: async () => ['events', 'rows.live'],
    nodes: async () => ['db1:5432', 'db2:5432'],
  });

test('names of commands, part by part', async () => {
  expect(await complete('operation', '')).toEqual(['cancel', 'list', 'resume', 'show']);
  expect(await complete('oper')).toEqual(['operation']);
  expect(await complete('complet'), 'what is hidden stays so').toEqual(['completion']);
  expect(await complete('nonsense', '')).toEqual([]);
});

test('flags that were not given yet, and their values', async () => {
  expect(await complete('fanout', 'pause', '--la')).toEqual(['--lane']);
  expect(await complete('fanout', 'pause', '--lane', 'live', '--la')).toEqual([]);
  expect(await complete('fanout', 'pause', '--lane', 'b')).toEqual(['bulk']);
  expect(await complete('fanout', 'pause', '--lane=b')).toEqual(['--lane=bulk']);
  expect(await complete('operation', 'list', '--state', 'done', '--sta'), 'may be given again').toEqual([
    '--state',
  ]);
  expect(await complete('fanout', 'pause', '--reason', '')).toEqual([]);
});

test('names that are not in the manifest', async () => {
  expect(await complete('context', 'remove', '')).toEqual(['local', 'prod']);
  expect(await complete('context', 'add', '')).toEqual([]);
  expect(await complete('feed', 'verify', '--context', 'p')).toEqual(['prod']);
  expect(await complete('queue', 'peek', 'e')).toEqual(['events']);
  expect(await complete('queue', 'peek', 'events', '')).toEqual([]);
  expect(await complete('node', 'drain', '')).toEqual(['db1:5432', 'db2:5432']);
  expect(await complete('node', 'add', '')).toEqual([]);
  expect(await complete('shards', 'move', '102008', 'db2')).toEqual(['db2:5432']);
  expect(await complete('shards', 'move', '--yes', '102008', ''), 'a flag is no argument').toHaveLength(2);
});
