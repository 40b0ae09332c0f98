// Checks the language and the line lengths of source, documentation and help: part of `npm run lint`.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MANIFEST = 'oclif.manifest.json';

const MAX_SOURCE_COLUMNS = 110;
const MAX_MARKDOWN_COLUMNS = 120;
const MAX_HELP_CHARACTERS = 400;

/** Words that hide who does what, or that have a plainer form. CONTRIBUTING.md says what to write instead. */
const WORDS = ['nobody', 'whoever', 'anew', 'of its own', 'told', 'somebody', 'anybody'];
/** Text around a word that makes it a name: `nobody` is a user of the operating system. */
const ALLOWED: readonly string[] = ["'nobody'", '`nobody`'];

export interface Fault {
  readonly path: string;
  readonly line: number;
  readonly reason: string;
}

/** A line of a test that holds one string and little else: a title, which reports print as one line. */
const TITLE = /^\s*(?:(?:test|describe)\b.*|\[)?(['`]).*\1(?:[,;]|, \{|, (?:async )?\(.*\) => \{)?$/;

/** A line of a source file is at most 110 columns long. The title of a test may be longer. */
export function sourceFaults(path: string, text: string): Fault[] {
  return longLines(path, text, MAX_SOURCE_COLUMNS).filter(
    ({ line }) => !(path.startsWith('test/') && TITLE.test(text.split('\n')[line - 1]!)),
  );
}

/** A line of Markdown is at most 120 columns long. A URL or another single word may be longer. */
export function markdownFaults(path: string, text: string): Fault[] {
  return longLines(path, text, MAX_MARKDOWN_COLUMNS).filter(
    ({ line }) => !/^\s*(?:[-*>] )?(?:\[[^\]]*\]: +)?\S+$/.test(text.split('\n')[line - 1]!),
  );
}

function longLines(path: string, text: string, max: number): Fault[] {
  return text.split('\n').flatMap((line, at) => {
    const columns = line.replace(/\r$/, '').length;
    return columns > max ? [{ path, line: at + 1, reason: `${columns} columns, maximum ${max}` }] : [];
  });
}

/** A word may be divided over two lines of a paragraph or of a comment. */
const PATTERN = new RegExp(
  `\\b(?:${WORDS.map((word) => word.replaceAll(' ', '[\\s*/]+')).join('|')})\\b`,
  'gi',
);

/** Words that the prose rules exclude. */
export function wordFaults(path: string, text: string): Fault[] {
  return [...text.matchAll(PATTERN)].flatMap(({ 0: word, index }) => {
    const around = text.slice(index - 1, index + word.length + 1);
    if (ALLOWED.includes(around)) return [];
    const line = text.slice(0, index).split('\n').length;
    return [{ path, line, reason: `the word "${word.replaceAll(/[\s*/]+/g, ' ')}"` }];
  });
}

/** A plural that leaves the number to the reader. `model/counted.ts` of the engine writes the right one. */
const OPEN_PLURAL = /[\w}]\(s\)/g;
/** Schemes of URLs in comments: `redis(s)://` stands for two of them. */
const SCHEME = /\b(?:amqp|http|redis|ws)\(s\)/g;

/** A text of a program has the plural that its number needs: `1 post`, `2 posts`. */
export function pluralFaults(path: string, text: string): Fault[] {
  return text.split('\n').flatMap((line, at) => {
    const found = line.replaceAll(SCHEME, '').match(OPEN_PLURAL);
    return found ? [{ path, line: at + 1, reason: 'the plural "(s)": `counted` writes the right one' }] : [];
  });
}

interface Described {
  readonly summary?: string;
  readonly description?: string;
}

export interface Manifest {
  readonly commands: Readonly<Record<string, Described & { flags: Record<string, Described> }>>;
}

/**
 * A summary or a description is at most 400 characters long. `read` returns the source of a command, whose
 * first line stands for a text that is defined in another file.
 */
export function helpFaults(manifest: Manifest, read: (path: string) => string): Fault[] {
  return Object.entries(manifest.commands).flatMap(([id, { flags, ...command }]) => {
    const path = `src/commands/${id.replaceAll(':', '/')}.ts`;
    const texts: [name: string, pattern: string, text: string | undefined][] = [
      ['summary', 'override summary', command.summary],
      ['description', 'override description', command.description],
      ...Object.entries(flags).flatMap(([name, flag]): typeof texts => [
        [`summary of --${name}`, `^\\s*'?${name}'?:`, flag.summary],
        [`description of --${name}`, `^\\s*'?${name}'?:`, flag.description],
      ]),
    ];
    return texts.flatMap(([name, pattern, text = '']) => longHelp(path, read, name, pattern, text));
  });
}

export interface Package {
  readonly oclif: { readonly topics: Readonly<Record<string, { readonly description: string }>> };
}

/** The description of a topic is at most 400 characters long. */
export function topicFaults(text: string): Fault[] {
  const { oclif } = JSON.parse(text) as Package;
  return Object.entries(oclif.topics).flatMap(([name, { description }]) =>
    longHelp('package.json', () => text, `description of topic ${name}`, `"${name}": \\{$`, description),
  );
}

function longHelp(
  path: string,
  read: (path: string) => string,
  name: string,
  pattern: string,
  text: string,
): Fault[] {
  if (text.length <= MAX_HELP_CHARACTERS) return [];
  const line = read(path)
    .split('\n')
    .findIndex((one) => new RegExp(pattern).test(one));
  const reason = `${name}: ${text.length} characters, maximum ${MAX_HELP_CHARACTERS}`;
  return [{ path, line: Math.max(1, line + 1), reason }];
}

const SOURCE = /^(?:src|test|scripts|bin)\/.*\.(?:tsx?|js|lua)$/;
const PROSE = /^(?:(?:src|docs)\/|(?:README|ARCHITECTURE|CONTRIBUTING|CHANGELOG)\.md$)/;

function filesOf(directory: string): string[] {
  const git = spawnSync('git', ['ls-files', '-co', '--exclude-standard'], {
    cwd: directory,
    encoding: 'utf8',
  });
  if (git.status !== 0) throw new Error(`git ls-files failed: ${git.stderr}`);
  return git.stdout
    .trim()
    .split('\n')
    .filter((path) => existsSync(directory + path));
}

/** Returns every fault of the repository. Needs the built manifest. */
export function proseFaults(): Fault[] {
  const read = (path: string): string => readFileSync(ROOT + path, 'utf8');
  if (!existsSync(ROOT + MANIFEST)) throw new Error(`${MANIFEST} is missing: run \`npm run build\` first`);
  const faults = filesOf(ROOT).flatMap((path) => {
    const isSource = SOURCE.test(path);
    const isMarkdown = path.endsWith('.md');
    const isProse = PROSE.test(path);
    if (!isSource && !isMarkdown && !isProse) return [];
    const text = read(path);
    return [
      ...(isSource ? sourceFaults(path, text) : []),
      ...(isMarkdown ? markdownFaults(path, text) : []),
      ...(isProse ? wordFaults(path, text) : []),
      ...(isSource && path.startsWith('src/') ? pluralFaults(path, text) : []),
    ];
  });
  const manifest = JSON.parse(read(MANIFEST)) as Manifest;
  return [...faults, ...helpFaults(manifest, read), ...topicFaults(read('package.json'))];
}

if (import.meta.main) {
  const faults = proseFaults();
  for (const { path, line, reason } of faults) process.stdout.write(`${path}:${line}: ${reason}\n`);
  if (faults.length > 0) process.exitCode = 1;
}
