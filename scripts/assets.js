// Copies every file of src that the compiler leaves out, such as the web page, to the same place in dist.
import { cpSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
cpSync(`${root}src`, `${root}dist`, { recursive: true, filter: (path) => !/\.tsx?$/.test(path) });
