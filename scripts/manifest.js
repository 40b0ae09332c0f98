// Writes oclif.manifest.json: with it `--help` loads no command at all. (The `oclif` package does the same, and
// brings 60 MB of cloud clients for its other commands.)
import { chmodSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Plugin } from '@oclif/core';

const root = fileURLToPath(new URL('..', import.meta.url));
const plugin = new Plugin({
  root,
  type: 'core',
  ignoreManifest: true,
  errorOnManifestCreate: true,
  respectNoCacheDefault: true,
});
await plugin.load();
writeFileSync(new URL('../oclif.manifest.json', import.meta.url), JSON.stringify(plugin.manifest));
chmodSync(new URL('../bin/run.js', import.meta.url), 0o755);
