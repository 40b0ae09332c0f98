import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { engineOrder } from '../scripts/architecture.ts';

const root = new URL('../', import.meta.url).pathname;
const order = engineOrder(readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8')).map((folder) => folder.name);

/** Maps each file below src to the files that it imports: types and `import()` included. */
const imports = new Map(
  readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.tsx?$/.test(file))
    .map((file) => [file, importsOf(file)]),
);

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, 'src', file), 'utf8');
  const specifiers = text.matchAll(/(?:\bfrom|\bimport|\bimport\()\s*'(\.[^']+)'/g);
  return [...specifiers].map(([, specifier]) => join(dirname(file), specifier!));
}

const folderOf = (file: string): string | undefined => /^engine\/([^/]+)\//.exec(file)?.[1];

test('every folder of src/engine is in the list of ARCHITECTURE.md, and nothing else is', () => {
  const folders = readdirSync(join(root, 'src/engine'));
  expect(folders.sort()).toEqual([...order].sort());
});

test('a folder of src/engine imports only from folders below it in the list of ARCHITECTURE.md', () => {
  const upward = [...imports].flatMap(([file, targets]) => {
    const from = folderOf(file);
    if (!from) return [];
    const outside = targets.filter((target) => !target.startsWith('engine/'));
    const above = targets.filter((target) => order.indexOf(folderOf(target) ?? '') < order.indexOf(from));
    return [...outside, ...above].map((target) => `${file} imports ${target}`);
  });
  expect(upward).toEqual([]);
});

test('src/engine imports neither commands nor views, and src/ui imports neither src/commands nor src/cli', () => {
  const forbidden = { engine: /^(commands|cli|ui)\//, ui: /^(commands|cli)\// };
  const crossing = Object.entries(forbidden).flatMap(([folder, pattern]) =>
    [...imports]
      .filter(([file]) => file.startsWith(`${folder}/`))
      .flatMap(([file, targets]) =>
        targets.filter((target) => pattern.test(target)).map((to) => `${file} > ${to}`),
      ),
  );
  expect(crossing).toEqual([]);
});

test('no files import each other in a circle, types included', () => {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) circles.push([...path.slice(start), file].join(' > '));
    if (start >= 0 || done.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of imports.keys()) visit(file, []);
  expect(circles).toEqual([]);
});

test('nothing but folders is in src and in src/engine', () => {
  const loose = ['src', 'src/engine'].flatMap((folder) =>
    readdirSync(join(root, folder), { withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => `${folder}/${entry.name}`),
  );
  expect(loose).toEqual([]);
});
