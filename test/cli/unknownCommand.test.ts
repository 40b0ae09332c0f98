import { expect, test } from 'vitest';
import { unknownCommand } from '../../src/cli/unknownCommand.ts';

const IDS = [
  'help',
  'queue:list',
  'bench:rebuild',
  'status',
  'feed:verify',
  'feed:rebuild',
  'worker:list',
  'cluster:apply',
  'user:show',
];
const said = (line: string) => {
  const { code, suggestions } = unknownCommand(line.split(' '), IDS, undefined);
  return [code, ...suggestions];
};

test.for([
  ['stauts', 'feedctl status'],
  ['feed verfy 3', 'feedctl feed verify'],
  ['wroker list --json', 'feedctl worker list'],
  ['rebuild 3', 'feedctl feed rebuild'],
  ['help queu list', 'feedctl queue list'],
])('%s is taken for a slip', ([line, meant]) => {
  expect(said(line!)).toContain(`\`${meant}\`, if that was meant.`);
});

test('what is near nothing gets no guess', () => {
  expect(said('xyzzy')).toEqual(['COMMAND_NOT_FOUND', 'See `feedctl --help`.']);
  expect(said('user 1 2')).toEqual(['COMMAND_NOT_FOUND', 'See `feedctl user --help`.']);
});

test('a command with too much behind it is not unknown', () => {
  expect(said('status now')).toEqual(['USAGE', 'See `feedctl status --help`.']);
});

test('flags come behind the command', () => {
  expect(unknownCommand(['--json', 'status'], IDS, undefined).message).toBe(
    'the command must come before `--json`',
  );
  expect(said('--json')).toEqual([
    'USAGE',
    'Put flags after it: `feedctl COMMAND --flag`.',
    'See `feedctl --help`.',
  ]);
});
