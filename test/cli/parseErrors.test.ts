import { Args, Flags, Parser } from '@oclif/core';
import { expect, test } from 'vitest';
import { toFeedctlError } from '../../src/cli/errors.ts';
import { timeFlag, userArg } from '../../src/cli/flags/common.ts';
import { durationFlag, secondsFlag } from '../../src/cli/flags/durations.ts';
import { explainParseError } from '../../src/cli/parseErrors.ts';

const flags = {
  limit: Flags.integer({ char: 'n', min: 1, max: 100, env: 'TEST_LIMIT' }),
  rate: Flags.integer({ min: 1 }),
  most: Flags.integer({ max: 9 }),
  lane: Flags.option({ options: ['live', 'bulk'] as const })(),
  age: secondsFlag(),
  timeout: durationFlag({ unit: 's', min: 1, max: 60, dependsOn: ['lane'] }),
  from: timeFlag({ aliases: ['since'], exclusive: ['from-id'] }),
  'from-id': Flags.string(),
  some: Flags.boolean({ relationships: [{ type: 'some', flags: ['rate', 'most'] }] }),
  only: Flags.boolean({ relationships: [{ type: 'only', flags: ['limit'] }] }),
  one: Flags.string({ exactlyOne: ['one', 'other'] }),
  other: Flags.string({ exactlyOne: ['one', 'other'] }),
};
const args = {
  user: userArg({ description: 'whose feed', required: true }),
  shell: Args.string({ options: ['bash', 'zsh'] }),
  count: Args.integer({ min: 1 }),
};
const needed = { lane: Flags.option({ options: ['live', 'bulk'] as const, required: true })() };

const examples = ['feedctl feed show 42 --lane live --json', 'feedctl feed show 42 --lane live'];
const HELP = 'See `feedctl feed show --help`.';
const EXAMPLE = 'For example: `feedctl feed show 42 --lane live`.';

/** Parses a line as oclif does, and explains the error. */
async function said(line: string, given: { flags?: object; args?: object } = {}) {
  const words = line.split(' ').filter(Boolean);
  const command = { flags, args, ...given } as { flags: typeof flags; args: typeof args };
  try {
    await Parser.parse(words, { ...command, strict: true, '--': true });
  } catch (error) {
    const explained = explainParseError(error, { name: 'feed show', examples, ...command }, words);
    const { code, message, suggestions } = explained ?? toFeedctlError(error);
    return [code, message, ...suggestions];
  }
  throw new Error(`\`${line}\` has no fault`);
}

const SAME = 'pass one of them';
test.for([
  // Every kind of error of the parser.
  ['', 'USER is missing: whose feed', EXAMPLE],
  ['1 bash 2 extra', '`feed show` takes only USER and SHELL and COUNT, but `extra` was given too'],
  ['1 --lmit 5', 'there is no flag `--lmit`: did you mean `--limit`?'],
  ['1 --snce 5m', 'there is no flag `--snce`: did you mean `--since`?'],
  ['1 --xyzzy -z', 'there is no flag `--xyzzy`; there is no flag `-z`'],
  ['1 --lane lve', '--lane lve is not one of live, bulk: did you mean live?'],
  ['1 tcsh', 'SHELL tcsh is not one of bash, zsh'],
  ['1 bash x', 'COUNT x is not a whole number of 1 or more'],
  ['1 --limit 0', '--limit 0 is not a whole number from 1 to 100'],
  ['1 -n 5.5', '--limit 5.5 is not a whole number from 1 to 100'],
  ['1 --rate=many', '--rate many is not a whole number of 1 or more'],
  ['1 --most 10', '--most 10 is not a whole number of 9 or less'],
  ['1 --limit', '--limit needs a value: `--limit <value>`'],
  ['1 --lane --some', '--lane needs a value: `--lane live|bulk`'],
  ['1 --limit 1 --limit 2', '--limit was given twice, and takes one value'],
  ['1 --age 5', '--age: 5 has no unit: write 5s, 5m or 5h'],
  ['1 --age soon', '--age: "soon" is not a duration such as 30s, 10m or 1h30m'],
  ['1 --timeout 2m --lane live', '--timeout: 2m is longer than 1m'],
  ['1 --timeout 5 --one x', '--timeout needs --lane live|bulk too'],
  ['1 --since 5m --from-id 3 --one x', `--from, --from-id exclude each other: ${SAME}`],
  ['1 --some --one x', '--some needs one of --rate, --most too'],
  ['1 --only --one x', 'with --only only --limit may be given'],
  ['1', 'one of --one, --other is needed'],
  ['1 --one x --other y', `--one, --other exclude each other: ${SAME}`],
])('`%s`: %s', async ([line, message, ...suggestions]) => {
  expect(await said(line!)).toEqual(['USAGE', message, ...suggestions, HELP]);
});

test('a flag that is missing, with an example that has it', async () => {
  expect(await said('1', { flags: needed })).toEqual(['USAGE', '--lane live|bulk is missing', EXAMPLE, HELP]);
  const atLeast = { a: Flags.string({ atLeastOne: ['a', 'b'] }), b: Flags.string() };
  expect((await said('1', { flags: atLeast }))[1]).toBe('at least one of --a, --b is needed');
});

test('a value of the environment is named by its variable', async () => {
  process.env.TEST_LIMIT = 'abc';
  try {
    expect((await said('1'))[1]).toBe('TEST_LIMIT abc is not a whole number from 1 to 100');
    expect((await said('1 -n x'))[1]).toBe('--limit x is not a whole number from 1 to 100');
  } finally {
    delete process.env.TEST_LIMIT;
  }
});

test('errors with a code of their own keep it', async () => {
  expect((await said('Ada'))[0]).toBe('INVALID_ID');
  expect((await said('-5', { args: {} }))[1]).not.toContain('flag');
});

test('what the parser does not report is no wrong use', () => {
  const command = { name: 'feed show', flags, args, examples };
  expect(explainParseError(new TypeError('x is undefined'), command, [])).toBeUndefined();
});
