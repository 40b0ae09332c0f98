// Draws docs/images/architecture.svg: the folders of src/engine, in the order of ARCHITECTURE.md, and their
// imports.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const IMAGE = 'docs/images/architecture.svg';

export interface Folder {
  readonly name: string;
  readonly purpose: string;
}

export interface EngineFolder {
  readonly files: number;
  /** Import statements by the folder that they import; types and `import()` included. */
  readonly imports: ReadonlyMap<string, number>;
}

interface Box extends Folder, EngineFolder {}

/** The path of a post: each step in the folders that take it. */
const STEPS = [
  { folders: ['gateway'], text: 'gateway: validates the request' },
  { folders: ['social'], text: 'social: commits post and event' },
  { folders: ['fanout'], text: 'fanout: plans, one message a partition' },
  { folders: ['bus'], text: 'bus: carries it to a writer' },
  { folders: ['cache', 'store'], text: 'store, cache: take the feed rows' },
  { folders: ['live'], text: 'live: sends frames to open sockets' },
] as const;

/** Returns the folders that follow `<!-- engine-order -->`, from top to bottom. */
export function engineOrder(markdown: string): Folder[] {
  const block = /<!-- engine-order -->\s*```[^\n]*\n([\s\S]*?)```/.exec(markdown);
  if (!block) throw new Error('ARCHITECTURE.md has no fenced block after <!-- engine-order -->');
  return block[1]!
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, name, purpose] = /^([\w-]+)\/\s+(.+)$/.exec(line.trim()) ?? [];
      if (!name || !purpose) throw new Error(`not "folder/  purpose": ${line}`);
      return { name, purpose };
    });
}

const isSource = (file: string): boolean => /\.tsx?$/.test(file);

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(isSource)
    .map((file) => join(folder, file));
}

/** Returns the folders of `engine`, an absolute path, with the imports between them. */
export function engineFolders(engine: string): Map<string, EngineFolder> {
  const folders = new Map<string, EngineFolder>();
  for (const entry of readdirSync(engine, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const files = filesBelow(join(engine, entry.name));
    const imports = new Map<string, number>();
    for (const file of files)
      for (const imported of importsOf(file)) {
        const [top, ...rest] = relative(engine, imported).split(sep);
        if (!top || top === '..' || top === entry.name || rest.length === 0) continue;
        imports.set(top, (imports.get(top) ?? 0) + 1);
      }
    folders.set(entry.name, { files: files.length, imports });
  }
  return folders;
}

function* importsOf(file: string): Generator<string> {
  const source = readFileSync(file, 'utf8');
  for (const [, path] of source.matchAll(/(?:\bfrom|\bimport|\bimport\()\s*'(\.[^']+)'/g))
    yield join(dirname(file), path!);
}

const WIDTH = 900;
const MARGIN = 28;
const BOX_X = 100;
const BOX_WIDTH = 462;
const MATRIX_X = BOX_X + BOX_WIDTH + 14;
const ROW = 30;
const BOX_HEIGHT = 25;
const TOP = 164;
const SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const COLOR = {
  paper: '#fbfaf7',
  ink: '#22262e',
  muted: '#6b7280',
  line: '#dcd9d0',
  box: '#ffffff',
  path: '#c2410c',
  pathBox: '#fff3ea',
  cell: '#2f5d8a',
  diagonal: '#c9c5b8',
  upward: '#dc2626',
} as const;

const STYLE = `
text { font-family: ${SANS}; fill: ${COLOR.ink}; }
.title { font-size: 21px; font-weight: 600; }
.muted { font-size: 12px; fill: ${COLOR.muted}; }
.name { font-family: ${MONO}; font-size: 13px; font-weight: 600; }
.purpose { font-size: 11.5px; fill: #444b57; }
.files { font-size: 11px; fill: ${COLOR.muted}; text-anchor: end; }
.column { font-family: ${MONO}; font-size: 10px; fill: ${COLOR.muted}; }
.bar { fill: #f4f2ec; }
.step { font-size: 11px; font-weight: 700; fill: #fff; text-anchor: middle; }
.caption { font-size: 12px; }
.path { fill: none; stroke: ${COLOR.path}; stroke-width: 1.8; }
`.trim();

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

const text = (x: number, y: number, style: string, content: string): string =>
  `<text x="${x}" y="${y}" class="${style}">${escaped(content)}</text>`;

/** Returns a rounded rectangle. */
function panel(of: {
  x: number;
  y: number;
  width: number;
  height: number;
  fill: string;
  stroke: string;
  radius?: number;
}): string {
  const { x, y, width, height, fill, stroke, radius = 5 } = of;
  const place = `x="${x}" y="${y}" width="${width}" height="${height}" rx="${radius}"`;
  return `<rect ${place} fill="${fill}" stroke="${stroke}"/>`;
}

const round = (value: number): number => Math.round(value * 10) / 10;

/** Returns the steps of the path that have a folder on disk, with the rows of those folders. */
function drawnSteps(boxes: readonly Box[]): { number: number; rows: number[] }[] {
  return STEPS.map(({ folders }, index) => ({
    number: index + 1,
    rows: folders.map((name) => boxes.findIndex((box) => box.name === name)).filter((row) => row >= 0),
  })).filter(({ rows }) => rows.length > 0);
}

const middle = (row: number): number => TOP + row * ROW + BOX_HEIGHT / 2;

function badge(x: number, y: number, number: number): string {
  const circle = `<circle cx="${x}" cy="${y}" r="8.5" fill="${COLOR.path}"/>`;
  return circle + text(x, y + 4, 'step', String(number));
}

/** Returns an arrow in the left margin. Arrows up are further left than arrows down. */
function arrow(from: number, to: number): string {
  const x = BOX_X - 11;
  const [start, end] = from < to ? [middle(from) + 4, middle(to) - 4] : [middle(from) - 4, middle(to) + 4];
  const rows = Math.abs(to - from);
  const reach = rows === 1 ? 13 : Math.min(BOX_X - MARGIN - 8, (from < to ? 20 : 34) + rows * 3);
  const bend = Math.min(26, Math.abs(end - start) / 2);
  const way = Math.sign(end - start);
  const left = x - reach;
  const line = [
    `M${x} ${start}`,
    `C${left} ${start} ${left} ${start} ${left} ${start + way * bend}`,
    `V${end - way * bend}`,
    `C${left} ${end} ${left} ${end} ${x - 2} ${end}`,
  ].join(' ');
  return `<path class="path" marker-end="url(#tip)" d="${line}"/>`;
}

function boxRow(box: Box, row: number, highlighted: boolean): string {
  const y = TOP + row * ROW;
  const [fill, stroke] = highlighted ? [COLOR.pathBox, COLOR.path] : [COLOR.box, COLOR.line];
  return [
    panel({ x: BOX_X, y, width: BOX_WIDTH, height: BOX_HEIGHT, fill, stroke }),
    text(BOX_X + 14, y + 17, 'name', `${box.name}/`),
    text(BOX_X + 120, y + 17, 'purpose', box.purpose),
    text(BOX_X + BOX_WIDTH - 10, y + 17, 'files', String(box.files)),
  ].join('');
}

/** Returns the matrix. A darker cell stands for more imports; its tooltip has the number. */
function cells(boxes: readonly Box[], size: number): string[] {
  const most = Math.max(1, ...boxes.flatMap(({ imports }) => [...imports.values()]));
  return boxes.flatMap((box, row) =>
    boxes.flatMap((imported, column) => {
      const x = round(MATRIX_X + column * size);
      const y = middle(row);
      if (row === column)
        return [`<circle cx="${round(x + size / 2)}" cy="${y}" r="1.8" fill="${COLOR.diagonal}"/>`];
      const count = box.imports.get(imported.name);
      if (!count) return [];
      const shade = round(0.25 + 0.75 * (Math.log1p(count) / Math.log1p(most)));
      const side = round(size - 2.4);
      const title = `<title>${box.name} imports ${imported.name}: ${count}</title>`;
      const color = column > row ? COLOR.cell : COLOR.upward;
      return [
        `<rect x="${x}" y="${round(y - side / 2)}" width="${side}" height="${side}" rx="2" ` +
          `fill="${color}" fill-opacity="${shade}">${title}</rect>`,
      ];
    }),
  );
}

/** Returns lines that lead from a cell to its row and to the title of its column. */
function guides(boxes: readonly Box[], size: number): string[] {
  return boxes.flatMap(({ name }, index) => {
    const x = round(MATRIX_X + (index + 0.5) * size - 1.2);
    const last = round(MATRIX_X + boxes.length * size);
    return [
      `<path d="M${x} ${middle(index)}H${last}" stroke="${COLOR.line}" stroke-opacity=".55"/>`,
      `<path d="M${x} ${TOP - 12}V${middle(index)}" stroke="${COLOR.line}" stroke-opacity=".55"/>`,
      `<text transform="translate(${round(x + 3.4)} ${TOP - 16}) rotate(-90)" class="column">${name}</text>`,
    ];
  });
}

/** Returns the legend of the matrix, which is empty below its diagonal. */
function legend(bottom: number): string[] {
  const y = bottom - 3 * ROW;
  const square = (shade: number, column: number) =>
    `<rect x="${MATRIX_X + column * 14}" y="${y - 28}" width="10" height="10" rx="2" ` +
    `fill="${COLOR.cell}" fill-opacity="${shade}"/>`;
  return [
    ...[0.3, 0.55, 0.8, 1].map(square),
    text(MATRIX_X, y + 2, 'muted', 'The folder of the row imports'),
    text(MATRIX_X, y + 18, 'muted', 'the folder of the column.'),
    text(MATRIX_X, y + 34, 'muted', 'Darker: more imports.'),
  ];
}

/** Returns a line for each folder that imports one above it. */
function upwardImports(boxes: readonly Box[]): string[] {
  const rows = new Map(boxes.map(({ name }, row) => [name, row]));
  return boxes.flatMap(({ name, imports }, row) =>
    [...imports]
      .filter(([imported]) => (rows.get(imported) ?? row) < row)
      .map(([imported, count]) => `${name} imports ${imported}, which is above it: ${count}`),
  );
}

/** Returns the picture. `commands`: files under src/commands. */
export function drawArchitecture(boxes: readonly Box[], commands: number): string {
  const size = round((WIDTH - MARGIN - MATRIX_X) / boxes.length);
  const steps = drawnSteps(boxes);
  const onPath = new Set(steps.flatMap(({ rows }) => rows));
  const bottom = TOP + boxes.length * ROW;
  const height = bottom + 112;
  const files = boxes.reduce((sum, box) => sum + box.files, 0);
  const rule =
    upwardImports(boxes).length === 0
      ? 'Each folder imports only folders below it.'
      : 'Red: imports of a folder above, which the order forbids.';
  const arrows = steps.slice(1).map((step, index) => arrow(steps[index]!.rows.at(-1)!, step.rows[0]!));
  const badges = steps.flatMap(({ number, rows }) => rows.map((row) => badge(BOX_X, middle(row), number)));
  const captions = steps.flatMap(({ number }, index) => {
    const x = BOX_X + (index % 3) * 264;
    const y = bottom + 44 + Math.floor(index / 3) * 28;
    return [badge(x, y, number), text(x + 15, y + 4, 'caption', STEPS[number - 1]!.text)];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
      `viewBox="0 0 ${WIDTH} ${height}" role="img" ` +
      'aria-label="Folders of the engine, their imports, and the path of a post">',
    `<style>${STYLE}</style>`,
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" ' +
      `orient="auto"><path d="M0 0L8 4L0 8z" fill="${COLOR.path}"/></marker></defs>`,
    panel({
      x: 0.5,
      y: 0.5,
      width: WIDTH - 1,
      height: height - 1,
      fill: COLOR.paper,
      stroke: COLOR.line,
      radius: 12,
    }),
    text(MARGIN, 44, 'title', 'The engine, from top to bottom'),
    text(MARGIN, 67, 'muted', `${boxes.length} folders, ${files} files. ${rule}`),
    panel({
      x: BOX_X,
      y: TOP - 52,
      width: BOX_WIDTH,
      height: 32,
      fill: COLOR.ink,
      stroke: COLOR.ink,
    }),
    text(BOX_X + 14, TOP - 32, 'name bar', 'src/commands  src/cli  src/ui'),
    text(BOX_X + BOX_WIDTH - 10, TOP - 32, 'files bar', `${commands} commands: parse, call, print`),
    text(BOX_X + BOX_WIDTH - 10, TOP - 7, 'files', 'files'),
    ...guides(boxes, size),
    ...cells(boxes, size),
    ...legend(bottom),
    ...arrows,
    ...boxes.map((box, row) => boxRow(box, row, onPath.has(row))),
    ...badges,
    text(MARGIN, bottom + 48, 'muted', 'A post:'),
    ...captions,
    '</svg>',
    '',
  ].join('\n');
}

/** Returns the exit status: 1 if a folder on disk is missing in the list. */
function main(): number {
  const engine = join(ROOT, 'src/engine');
  const order = engineOrder(readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8'));
  const onDisk = engineFolders(engine);
  const warn = (warning: string) => process.stderr.write(`${warning}\n`);
  const listed = new Set(order.map(({ name }) => name));
  const unlisted = [...onDisk.keys()].filter((name) => !listed.has(name));
  for (const name of unlisted)
    warn(`src/engine/${name} is missing in the list of ARCHITECTURE.md: add it there`);
  if (unlisted.length > 0) return 1;
  const boxes: Box[] = [];
  for (const folder of order) {
    const found = onDisk.get(folder.name);
    if (found) boxes.push({ ...folder, ...found });
    else warn(`src/engine/${folder.name} is not on disk: skipped`);
  }
  for (const upward of upwardImports(boxes)) warn(upward);
  const svg = drawArchitecture(boxes, filesBelow(join(ROOT, 'src/commands')).length);
  mkdirSync(join(ROOT, dirname(IMAGE)), { recursive: true });
  writeFileSync(join(ROOT, IMAGE), svg);
  return 0;
}

if (import.meta.main) process.exitCode = main();
