// Copies every file of src that the compiler does not compile (the demo's data, the web page) to the same
// path in dist, and writes dist/build.json: the commit that `feedctl version` shows.
import { spawnSync } from 'node:child_process';
import { cpSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
cpSync(`${root}src`, `${root}dist`, { recursive: true, filter: (path) => !/\.tsx?$/.test(path) });

/** Returns what git prints, or undefined outside a clone of this project. */
function git(...args) {
  const { status, stdout } = spawnSync('git', ['-C', root, ...args], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}
// A package in the node_modules of another project is no clone.
const isClone = git('rev-parse', '--show-prefix') === '';
const commit = isClone ? git('rev-parse', 'HEAD') : undefined;
const build = commit ? { commit, modified: Boolean(git('status', '--porcelain', '-uno')) } : {};
writeFileSync(`${root}dist/build.json`, JSON.stringify(build));
