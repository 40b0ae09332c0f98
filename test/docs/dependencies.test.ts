import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { licenceFaults } from '../../scripts/licences.ts';
import { productionBom } from '../../scripts/sbom.ts';

interface Locked {
  readonly name?: string;
  readonly version: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => JSON.parse(readFileSync(ROOT + path, 'utf8'));
const { packages }: { packages: Record<string, Locked> } = read('package-lock.json');
const root = packages['']!;
const installed = Object.entries(packages).filter(([path]) => path !== '');

/** Machines that people and images use. */
const PLATFORMS: readonly { os: string; cpu: string; libc?: string }[] = [
  { os: 'darwin', cpu: 'arm64' },
  { os: 'darwin', cpu: 'x64' },
  ...['glibc', 'musl'].flatMap((libc) => ['arm64', 'x64'].map((cpu) => ({ os: 'linux', cpu, libc }))),
];

/** Returns the locked package that a package at a path requires by name. */
function required(path: string, name: string): Locked | undefined {
  for (let at = path; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    const found = packages[`${at}${at && '/'}node_modules/${name}`];
    if (found || at === '') return found;
  }
}

test('every package has a licence of the list, and other licences are faults', () => {
  expect(licenceFaults(read('package-lock.json'))).toEqual([]);
  const faults = (license: string | undefined, dev?: boolean) =>
    licenceFaults({
      packages: { '': {}, 'node_modules/a': { ...(license && { license }), ...(dev && { dev }) } },
    });
  for (const license of ['MIT', '(MIT OR GPL-3.0-only)', 'MIT AND ISC']) expect(faults(license)).toEqual([]);
  for (const license of ['GPL-3.0-only', 'MIT AND GPL-3.0-only', 'AGPL-3.0-or-later', 'UNLICENSED'])
    expect(faults(license), license).toEqual([
      `node_modules/a: the licence ${license} is not allowed in production`,
    ]);
  expect(faults('SEE LICENSE IN LICENSE', true)).toHaveLength(1);
  expect(faults(undefined)).toHaveLength(1);
  expect(faults('MPL-2.0', true)).toEqual([]);
  expect(faults('MPL-2.0')).toHaveLength(1);
});

test('the lock file has each package that package.json and packages require, with its checksum', () => {
  const { dependencies, devDependencies, optionalDependencies } = read('package.json');
  expect(root).toMatchObject({ dependencies, devDependencies, optionalDependencies });
  const missing: string[] = [];
  for (const [path, { dependencies, devDependencies, optionalDependencies }] of Object.entries(packages))
    for (const name of Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies }))
      if (!required(path, name)) missing.push(`${path} requires ${name}`);
  expect(missing).toEqual([]);
  for (const [path, { integrity, resolved }] of installed) {
    expect(integrity, path).toMatch(/^sha512-/);
    expect(resolved, `${path}: the registry is a setting of the machine`).toBeUndefined();
  }
});

test('the lock file has the binaries for macOS and for Linux with glibc and musl', () => {
  const families = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) => {
    const binaries = Object.keys(optionalDependencies).map((name) => required(path, name)!);
    const native = binaries.filter(({ cpu }) => cpu);
    return native.length > 1 ? [{ name: path.replace(/^.*node_modules\//, ''), native }] : [];
  });
  expect(families.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['', '@biomejs/biome', 'lightningcss', 'oxc-parser', 'rolldown', 'typescript']),
  );
  for (const { name, native } of families)
    for (const { os, cpu, libc } of PLATFORMS) {
      const fits = native.some(
        (one) =>
          one.os?.includes(os) &&
          one.cpu!.includes(cpu) &&
          (one.libc === undefined || libc === undefined || one.libc.includes(libc)),
      );
      expect(fits, `${name || 'feedctl'} for ${os} ${cpu} ${libc ?? ''}`).toBe(true);
    }
});

test('the bill of materials has exactly the packages that a user installs, with their checksums', () => {
  const bom = productionBom();
  const { name, version } = read('package.json');
  const component = { name, purl: `pkg:npm/${name}@${version}`, type: 'application' };
  expect(bom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.5', metadata: { component } });
  const lines = (all: (readonly [purl: string, hash: string | undefined])[]) =>
    [...new Set(all.map((one) => one.join(' ')))].sort();
  const wanted = installed.flatMap(([path, { version, integrity, dev }]) =>
    dev ? [] : [[purlOf(path.replace(/^.*node_modules\//, ''), version), hashOf(integrity!)] as const],
  );
  const listed = bom.components.map(
    ({ purl, hashes }) => [purl, hashes.find(({ alg }) => alg === 'SHA-512')?.content] as const,
  );
  expect(lines(listed)).toEqual(lines(wanted));
  for (const { purl, licenses } of bom.components) expect(licenses, purl).toHaveLength(1);
  const [own] = bom.dependencies;
  const direct = Object.keys({ ...root.dependencies, ...root.optionalDependencies }).map(
    (one) => `${one}@${packages[`node_modules/${one}`]!.version}`,
  );
  expect(own!.dependsOn.toSorted()).toEqual(direct.sort());
});

const purlOf = (name: string, version: string) => `pkg:npm/${name.replace('@', '%40')}@${version}`;

const hashOf = (integrity: string) => Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex');
