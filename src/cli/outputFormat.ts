/** What a command prints: text for people, or one value for programs. */
export type Format = 'text' | 'json' | 'yaml';

export const OUTPUTS = ['table', 'wide', 'json', 'yaml', 'csv', 'name'] as const;
export type Output = (typeof OUTPUTS)[number];

/** Returns the words that may be flags: those before `--`. */
export const flagWords = (argv: readonly string[]): readonly string[] =>
  argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;

/**
 * Returns the output that a command line asks for, before it is parsed: errors of the parser are printed in
 * that form too.
 */
export function outputOf(argv: readonly string[]): Output {
  const words = flagWords(argv);
  if (words.includes('--json')) return 'json';
  for (const [at, word] of words.entries()) {
    const glued = /^(?:--output=|-o=?)(\w+)$/.exec(word)?.[1];
    const given = glued ?? (word === '-o' || word === '--output' ? words[at + 1] : undefined);
    const output = OUTPUTS.find((one) => one === given);
    if (output) return output;
  }
  return 'table';
}

export function printedFormat(argv: readonly string[]): Format {
  const output = outputOf(argv);
  return output === 'json' || output === 'yaml' ? output : 'text';
}
