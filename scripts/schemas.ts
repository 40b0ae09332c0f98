// Writes docs/schemas: the output of each command with --json as JSON Schema, from the types of `run`.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import TJS from 'typescript-json-schema';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = 'docs/schemas/';

const COMPILER = {
  target: 'es2022',
  lib: ['es2023'],
  module: 'nodenext',
  moduleResolution: 'nodenext',
  types: ['node'],
  allowImportingTsExtensions: true,
  strict: true,
  noEmit: true,
  skipLibCheck: true,
};

/** Returns schemas as text by their path below the root. It compiles `src`, which takes some seconds. */
export function schemas(): Map<string, string> {
  mkdirSync(join(ROOT, 'node_modules/.cache'), { recursive: true });
  // Imports of packages are resolved from below node_modules.
  const directory = mkdtempSync(join(ROOT, 'node_modules/.cache/schemas-'));
  try {
    declare(directory);
    const outputs = readdirSync(join(directory, 'commands'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.d.ts'))
      .sort()
      .flatMap((file) => outputOf(join(directory, 'commands', file), file.slice(0, -'.d.ts'.length)) ?? []);
    const program = TJS.getProgramFromFiles(
      outputs.map(({ file }) => file),
      COMPILER,
      directory,
    );
    return new Map(
      outputs.map(({ command }) => {
        // One generator a command: two commands may have different types of the same name.
        const generator = TJS.buildGenerator(program, {
          required: true,
          strictNullChecks: true,
          ignoreErrors: true,
        })!;
        const { $schema, ...schema } = withShortNames(generator.getSchemaForSymbol(typeName(command)));
        const title = `feedctl ${command.replaceAll('/', ' ')} --json`;
        return [
          `${FOLDER}${command.replaceAll('/', '-')}.json`,
          `${JSON.stringify({ $schema, title, ...schema }, null, 2)}\n`,
        ];
      }),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Writes the declarations of everything in `src`. */
function declare(directory: string): void {
  const options = ['--declaration', '--emitDeclarationOnly', '--noEmit', 'false', '--outDir', directory];
  const tsc = spawnSync('npx', ['tsc', '-p', 'tsconfig.build.json', ...options], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  if (tsc.status !== 0) throw new Error(tsc.stdout);
}

const typeName = (command: string): string => `Output_${command.replace(/\W/g, '_')}`;

/** Writes a file with the type that `run` resolves with. Returns undefined for a command without output. */
function outputOf(declaration: string, command: string): { command: string; file: string } | undefined {
  const text = readFileSync(declaration, 'utf8');
  const { 0: head, index: start } = /^export .*class \w+ extends (\w+)/m.exec(text)!;
  const output = /^ {4}run\(\): Promise<([\s\S]*?)>;$/m.exec(text)?.[1];
  if (output === undefined) {
    const [, base] = new RegExp(`import \\{ ${head.split(' ').at(-1)} \\} from '(.*)\\.ts'`).exec(text)!;
    return outputOf(join(declaration, '..', `${base}.d.ts`), command);
  }
  if (output === 'void') return undefined;
  const others = text.slice(0, start) + text.slice(text.indexOf('\n}\n', start) + 3);
  const file = declaration.replace(/\.d\.ts$/, `.${typeName(command)}.ts`);
  writeFileSync(file, `${others}\nexport type ${typeName(command)} = ${output};\n`);
  return { command, file };
}

/** Removes the path of the file from the name of a type. */
const shortName = (name: string): string => name.replaceAll(/import\([^)]*\)\./g, '');

function withShortNames(schema: TJS.Definition): TJS.Definition {
  const renamed = JSON.parse(JSON.stringify(schema), (key, value) =>
    key === '$ref'
      ? `#/definitions/${encodeURIComponent(shortName(decodeURIComponent(value.slice(14))))}`
      : value,
  ) as TJS.Definition;
  const named = Object.entries(renamed.definitions ?? {}).map(
    ([name, one]) => [shortName(name), one] as const,
  );
  if (new Set(named.map(([name]) => name)).size < named.length)
    throw new Error(`two types of one name: ${named.map(([name]) => name)}`);
  if (named.length > 0) renamed.definitions = Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1)));
  return renamed;
}

if (import.meta.main) {
  const made = schemas();
  rmSync(join(ROOT, FOLDER), { recursive: true, force: true });
  mkdirSync(join(ROOT, FOLDER), { recursive: true });
  for (const [path, text] of made) writeFileSync(join(ROOT, path), text);
}
