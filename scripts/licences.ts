import { readFileSync } from 'node:fs';
import satisfies from 'spdx-satisfies';

const LOCK = new URL('../package-lock.json', import.meta.url);

/** Licences, as SPDX identifiers, of packages that a user of feedctl installs. All are permissive. */
const PRODUCTION = [
  'Apache-2.0',
  'BlueOak-1.0.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'CC0-1.0',
  'ISC',
  'MIT',
  'PSF-2.0',
  'Unlicense',
] as const;

/** Further licences of packages that only build and test feedctl. They are not distributed with it. */
const DEVELOPMENT = ['0BSD', 'CC-BY-3.0', 'MPL-2.0'] as const;

/** The part of package-lock.json that this check reads. */
export interface Lock {
  readonly packages: Readonly<Record<string, { readonly license?: string; readonly dev?: boolean }>>;
}

/**
 * Returns a line for each package whose licence is not allowed. The lock file has packages of all
 * platforms, where `node_modules` has those of one.
 */
export function licenceFaults({ packages }: Lock): string[] {
  return Object.entries(packages)
    .filter(([path]) => path !== '')
    .flatMap(([path, { license, dev = false }]) => {
      const allowed = dev ? [...PRODUCTION, ...DEVELOPMENT] : [...PRODUCTION];
      if (license !== undefined && isAllowed(license, allowed)) return [];
      const use = dev ? 'development' : 'production';
      return [`${path}: the licence ${license ?? '(none)'} is not allowed in ${use}`];
    });
}

/** A text that is no SPDX expression, such as `SEE LICENSE IN file`, is not allowed. */
function isAllowed(license: string, allowed: string[]): boolean {
  try {
    return satisfies(license, allowed);
  } catch {
    return false;
  }
}

if (import.meta.main) {
  const faults = licenceFaults(JSON.parse(readFileSync(LOCK, 'utf8')) as Lock);
  for (const fault of faults) process.stdout.write(`package-lock.json: ${fault}\n`);
  if (faults.length > 0) process.exitCode = 1;
}
