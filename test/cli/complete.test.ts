import { Config } from '@oclif/core';
import { expect, test } from 'vitest';
import { completions } from '../../src/cli/completion/complete.ts';

const { commands } = await Config.load({ root: new URL('../..', import.meta.url).pathname, version: '' });
const named =
  (...values: string[]) =>
  async () =>
    values.map((value) => ({ value, about: `of ${value}` }));
const found = (words: string[]) =>
  completions(
    commands,
    words,
    {
      contexts: named('local', 'prod'),
      queues: named('events', 'rows.live'),
      codes: named('BAD_LINE'),
      nodes: named('db1:5432', 'db2:5432'),
      workers: named('941e5e23-dfa4'),
      gateways: named('10c0ffee-0000'),
      operations: named('12', '7'),
      letters: named('81203'),
    },
    [{ name: 'queue', about: 'Queues between posts and feeds' }],
  );
const complete = async (...words: string[]) => (await found(words)).map(({ value }) => value);

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

test('ids that there are now, with a description', async () => {
  expect(await complete('worker', 'drain', '94')).toEqual(['941e5e23-dfa4']);
  expect(await complete('gateway', 'drain', '')).toEqual(['10c0ffee-0000']);
  expect(await complete('operation', 'show', '')).toEqual(['12', '7']);
  expect(await complete('dlq', 'replay', '8')).toEqual(['81203']);
  expect(await complete('errors', 'BAD')).toEqual(['BAD_LINE']);
  expect(await found(['worker', 'drain', '94'])).toEqual([
    { value: '941e5e23-dfa4', about: 'of 941e5e23-dfa4' },
  ]);
});

test('topics, commands and flags are described by their help', async () => {
  const about = async (...words: string[]) => (await found(words))[0]?.about;
  expect(await about('queu')).toBe('Queues between posts and feeds');
  expect(await about('queue', 'li')).toBe('Show backlog, rates and remaining time of each queue');
  expect(await about('queue', 'list', '--det')).toContain('authors and posts');
});
