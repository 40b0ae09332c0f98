import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { feedctl, temporaryDirectory } from '../support/cli.ts';

const HOOK = new URL('../support/loaded.js', import.meta.url).href;

async function packagesLoadedBy(args: string[]): Promise<string[]> {
  const { stderr } = await feedctl(args, { node: ['--import', HOOK] });
  const loaded = /^loaded: (.*)$/m.exec(stderr)?.[1]?.split(' ') ?? [];
  // The hook saw the command line itself: an empty list of drivers means something.
  expect(loaded, fileURLToPath(HOOK)).toContain('@oclif/core');
  return loaded;
}

const DRIVERS = [
  'pg',
  'ink',
  'react',
  'fastify',
  'ws',
  'node-pg-migrate',
  'jose',
  'pino',
  'zod',
  'cli-table3',
  '@kubernetes/client-node',
  'yaml',
  // oclif's check of the version of Node, 9 ms.
  'semver',
];

test('help loads no driver', async () => {
  for (const args of [
    ['--help'],
    ['cluster', 'apply', '--help'],
    ['user', 'show', '--help'],
    ['up', '--help'],
    ['demo', '--help'],
  ]) {
    const loaded = await packagesLoadedBy(args);
    expect(
      loaded.filter((name) => DRIVERS.includes(name)),
      args.join(' '),
    ).toEqual([]);
  }
});

test('a command loads what it needs', async () => {
  const at = ['--data-dir', await temporaryDirectory()];
  const show = await packagesLoadedBy(['user', 'show', '1', ...at]);
  expect(show).toContain('pg');
  const servers = ['ink', 'react', 'fastify', 'ws', 'node-pg-migrate'];
  expect(show.filter((name) => servers.includes(name))).toEqual([]);
});
