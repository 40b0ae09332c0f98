import { expect, test } from 'vitest';
import { ordered } from '../../src/cli/commandLine.ts';
import { outputOf } from '../../src/cli/outputFormat.ts';

const GLOBAL = {
  json: { type: 'boolean' },
  context: { type: 'option' },
  output: { type: 'option', char: 'o' },
  quiet: { type: 'boolean', char: 'q' },
};

test.for([
  ['--json status', 'status --json'],
  ['--context prod -q feed show 1', 'feed show 1 --context prod -q'],
  ['--context=prod -ojson feed show', 'feed show --context=prod -ojson'],
  ['-o yaml post create 1 -- --json', 'post create 1 -o yaml -- --json'],
  ['status --json', 'status --json'],
  ['--context prod help feed verify', 'help feed verify'],
  ['--version', '--version'],
  ['-v', '--version'],
  ['--json --version', 'version --json'],
  ['--version --json', 'version --json'],
  // What no command takes there stays, and is refused.
  ['--limit 3 feed show', '--limit 3 feed show'],
  ['--json --limit 3 feed show', '--limit 3 feed show --json'],
  ['--json', '--json'],
  ['', ''],
])('`%s` is `%s`', ([line, expected]) => {
  expect(ordered(line!.split(' ').filter(Boolean), GLOBAL).join(' ')).toBe(expected);
});

test.for([
  ['status --json', 'json'],
  ['status -o yaml', 'yaml'],
  ['status -ocsv', 'csv'],
  ['status --output=wide', 'wide'],
  ['status --output name', 'name'],
  ['status -o cvs', 'table'],
  ['complete -- status --json', 'table'],
  ['status', 'table'],
])('`%s` prints %s', ([line, output]) => {
  expect(outputOf(line!.split(' '))).toBe(output);
});
