import { inject } from 'vitest';
import type { FoundServer } from './servers.ts';

/**
 * The URL of a server that a suite needs, or undefined where there is none: its suite is then skipped
 * (`describe.skipIf(!url)`), which stderr says. With FEEDCTL_TEST_REQUIRE=all it is a failure instead.
 */
export async function findServer(name: string): Promise<string | undefined> {
  const answer = await fetch(`${inject('servers')}/${name}`);
  const found = (await answer.json()) as FoundServer;
  if ('url' in found) return found.url;
  const reason = `no ${name}: ${found.missing}`;
  if (process.env.FEEDCTL_TEST_REQUIRE === 'all' && !found.optional) throw new Error(reason);
  process.stderr.write(`\n*** TESTS SKIPPED, ${reason} ***\n\n`);
  return undefined;
}
