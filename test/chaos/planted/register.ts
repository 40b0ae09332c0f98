import { registerHooks } from 'node:module';
import { BUGS } from './bugs.ts';

const name = new URL(import.meta.url).search.slice(1);
const bug = BUGS.find((one) => one.name === name)!;

// The compiled files stay as they are: the program that is shipped contains no switch.
registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.endsWith(`/dist/engine/${bug.file}`)) return loaded;
    const text = String(loaded.source);
    if (!text.includes(bug.replace)) throw new Error(`${bug.file} lacks the text that ${name} replaces`);
    return { ...loaded, source: text.replaceAll(bug.replace, bug.by) };
  },
});
