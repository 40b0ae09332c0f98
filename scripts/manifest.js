// Writes oclif.manifest.json: with it `--help` loads no command. (The `oclif` package does the same, but it
// installs 60 MB of cloud clients for its other commands.)
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
// The lines of a paragraph are joined: help wraps them at the width of the terminal.
for (const command of Object.values(plugin.manifest.commands)) {
  command.description = command.description?.replaceAll(/(?<!\n)\n(?!\n)/g, ' ');
  // Functions of `defaultHelp` only write a default as it is typed. `--help` would load the command for them.
  command.hasDynamicHelp = false;
}
writeFileSync(new URL('../oclif.manifest.json', import.meta.url), JSON.stringify(plugin.manifest));
chmodSync(new URL('../bin/run.js', import.meta.url), 0o755);
