import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The Lua files of `lua/`; each opens with its inputs, its result and why it has to be atomic. */
export type ScriptName =
  | ('look' | 'adopt' | 'claim' | 'cover')
  | ('push' | 'forget' | 'lease' | 'slots' | 'fill' | 'page' | 'posts' | 'edit');

export interface Script {
  readonly text: string;
  /** SHA-1 of the text, by which Redis knows a script that it has run before. */
  readonly sha: string;
}

const FOLDER = new URL('./lua/', import.meta.url);
const INCLUDE = /^--- @include "(\w+)"$/gm;

const loaded = new Map<ScriptName, Script>();

/** Returns a script with its includes. Reads its file once, when the script is first needed. */
export function scriptOf(name: ScriptName): Script {
  let script = loaded.get(name);
  if (!script) {
    const text = read(`${name}.lua`).replace(INCLUDE, (_, part) => read(`includes/${part}.lua`));
    script = { text, sha: createHash('sha1').update(text).digest('hex') };
    loaded.set(name, script);
  }
  return script;
}

const read = (file: string): string => readFileSync(new URL(file, FOLDER), 'utf8');
