import { expect, test } from 'vitest';
import { sourceArguments } from '../../src/cli/initAnswers.ts';
import { feedctl } from '../support/cli.ts';

test.for([
  ['', []],
  ['postgres://feeds@db/feeds', ['--database-url=postgres://feeds@db/feeds']],
  ['$DATABASE', ['--database-url-env=DATABASE']],
  ['@/run/secrets/url', ['--database-url-file=/run/secrets/url']],
  ['!pass show feeds/prod', ['--database-url-command=pass show feeds/prod']],
] as const)('the answer %j is %j', ([answer, args]) => {
  expect(sourceArguments('database-url', answer)).toEqual(args);
});

test('without a terminal `init` names the command that needs none', async () => {
  const { status, stderr } = await feedctl(['init']);
  expect(status).toBe(2);
  expect(stderr).toContain('feedctl context add NAME');
});
