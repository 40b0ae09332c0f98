// Loaded with --import: writes the packages a run has loaded to stderr when it ends.
import { registerHooks } from 'node:module';

const packages = new Set();
registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context);
    const name = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(found.url)?.[1];
    if (name) packages.add(name);
    return found;
  },
});
process.on('exit', () => process.stderr.write(`loaded: ${[...packages].join(' ')}\n`));
