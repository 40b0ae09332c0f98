import { Flags } from '@oclif/core';
import { expect, test } from 'vitest';
import { invocationOf } from '../../src/cli/invocation.ts';

const baseFlags = { context: Flags.string(), 'database-url': Flags.string() };

test('a command is noted without what names the cluster, the way of the output and a confirmation', () => {
  const flags = { yes: Flags.boolean({ char: 'y' }), rate: Flags.integer() };
  const argv = [
    '--context',
    'prod',
    '5',
    '--database-url=x',
    '--rate',
    '9',
    '-y',
    '--json',
    '--yes',
    '--',
    '--json',
  ];
  const { who, command } = invocationOf({ id: 'feed:rebuild', flags, baseFlags }, argv);
  expect(who).toMatch(/^.+@.+$/);
  expect(command).toEqual({ id: 'feed:rebuild', args: ['5', '--rate', '9', '--', '--json'] });
});

test('a name that confirms is kept: it is the same the next time', () => {
  const flags = { yes: Flags.string() };
  const { command } = invocationOf({ id: 'user:erase', flags, baseFlags }, ['5', '--yes', '5']);
  expect(command).toEqual({ id: 'user:erase', args: ['5', '--yes', '5'] });
});
