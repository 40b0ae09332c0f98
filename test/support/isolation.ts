import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Variables of the tests themselves (CONTRIBUTING.md). */
const OF_TESTS = /^FEEDCTL_(TEST_.*|FOUNDATIONS|HISTORIES|SEED|BODIES|ROUNDS)$/;
/** Variables that name clusters, servers and secrets of the person who runs the tests. */
const PERSONAL = /^(FEEDCTL_.*|PG[A-Z]+|OTEL_.*|XDG_.*|KUBECONFIG)$/;

export const isPersonal = (name: string): boolean => PERSONAL.test(name) && !OF_TESTS.test(name);

/**
 * Takes contexts, settings and secrets of the person who runs the tests out of the environment of this
 * process, which all test files and their processes inherit. Returns the removal of the empty home.
 */
export async function isolateFromPerson(): Promise<() => Promise<void>> {
  const home = await mkdtemp(join(tmpdir(), 'feedctl-home-'));
  for (const name of Object.keys(process.env)) if (isPersonal(name)) delete process.env[name];
  process.env.HOME = home;
  return () => rm(home, { recursive: true, force: true });
}
