import { expect, test } from 'vitest';
import {
  helpFaults,
  markdownFaults,
  pluralFaults,
  sourceFaults,
  topicFaults,
  wordFaults,
} from '../../scripts/prose.ts';

test('a source line has at most 110 columns', () => {
  expect(sourceFaults('src/a.ts', `${'x'.repeat(110)}\n`)).toEqual([]);
  expect(sourceFaults('src/a.ts', `short\n${'x'.repeat(111)}\n`)).toEqual([
    { path: 'src/a.ts', line: 2, reason: '111 columns, maximum 110' },
  ]);
});

test('the title of a test may be longer', () => {
  const title = `test('${'word '.repeat(25)}', async () => {`;
  expect(sourceFaults('test/a.test.ts', title)).toEqual([]);
  expect(sourceFaults('src/a.ts', title)).toHaveLength(1);
  expect(sourceFaults('test/a.test.ts', `const text = '${'word '.repeat(25)}';`)).toHaveLength(1);
});

test('a line of Markdown has at most 120 columns, unless it is one long word', () => {
  const url = `https://example.com/${'x'.repeat(120)}`;
  for (const line of ['word '.repeat(24).trim(), url, `- ${url}`, `[link]: ${url}`])
    expect(markdownFaults('a.md', line), line).toEqual([]);
  for (const line of ['word '.repeat(25).trim(), `| cell | ${url} |`, `See ${url} for more`])
    expect(markdownFaults('a.md', `# Title\n\n${line}\n`), line).toMatchObject([{ path: 'a.md', line: 3 }]);
});

test.for(['nobody', 'Whoever', 'anew', 'of its own', 'told', 'somebody', 'anybody'])(
  'the word "%s" is a fault',
  (word) => {
    expect(wordFaults('docs/a.md', `One.\n\n${word} waits.\n`)).toEqual([
      { path: 'docs/a.md', line: 3, reason: `the word "${word}"` },
    ]);
    expect(wordFaults('docs/a.md', `x${word}x`)).toEqual([]);
  },
);

test('a word on two lines of a comment is found, and the user `nobody` is a name', () => {
  expect(wordFaults('src/a.ts', '/**\n * A room of its\n * own.\n */')).toEqual([
    { path: 'src/a.ts', line: 2, reason: 'the word "of its own"' },
  ]);
  expect(wordFaults('src/a.ts', "// Runs as `nobody`.\nrun('nobody');")).toEqual([]);
  expect(wordFaults('src/a.ts', '// Nobody runs.')).toHaveLength(1);
});

test('an open plural is a fault, the scheme of a URL is none', () => {
  for (const text of ['{count} post(s)', "'field(s)'", '{name}(s)'])
    expect(pluralFaults('src/a.ts', `\n${text}`), text).toMatchObject([{ path: 'src/a.ts', line: 2 }]);
  for (const text of ['// redis(s)://host', 'of(rows)', 'find (s)'])
    expect(pluralFaults('src/a.ts', text), text).toEqual([]);
});

test('a help text has at most 400 characters', () => {
  const long = 'x'.repeat(401);
  const command = (texts: object, flag: object) => ({
    commands: { 'queue:list': { ...texts, flags: { 'max-age': flag } } },
  });
  const source = [
    'class A {',
    "  static override summary = '';",
    '  static override description = ``;',
    "  'max-age': f({",
  ].join('\n');
  const faults = (texts: object, flag = {}) => helpFaults(command(texts, flag), () => source);
  const path = 'src/commands/queue/list.ts';
  const reason = (name: string) => `${name}: 401 characters, maximum 400`;
  expect(faults({ summary: 'x'.repeat(400) }, { description: 'short' })).toEqual([]);
  expect(faults({ summary: long })).toEqual([{ path, line: 2, reason: reason('summary') }]);
  expect(faults({ description: long })).toEqual([{ path, line: 3, reason: reason('description') }]);
  expect(faults({}, { description: long })).toEqual([
    { path, line: 4, reason: reason('description of --max-age') },
  ]);
});

test('a topic has at most 400 characters', () => {
  const topics = (description: string) =>
    JSON.stringify({ oclif: { topics: { feed: { description } } } }, null, 2);
  expect(topicFaults(topics('Feeds'))).toEqual([]);
  expect(topicFaults(topics('x'.repeat(401)))).toEqual([
    { path: 'package.json', line: 4, reason: 'description of topic feed: 401 characters, maximum 400' },
  ]);
});
