import { inject } from 'vitest';
import type { FoundServer } from './servers.ts';

/**
 * Returns the URL of a server that a suite needs, or undefined without one: the suite is then skipped
 * (`describe.skipIf(!url)`), with a line on stderr. FEEDCTL_TEST_REQUIRE=all makes it a failure.
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
