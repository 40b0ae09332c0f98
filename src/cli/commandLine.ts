type GlobalFlags = Readonly<Record<string, { readonly type: string; readonly char?: string | undefined }>>;

const VERSION = new Set(['-v', '--version']);

/**
 * Returns a command line in the order that oclif accepts: flags of all commands may come before the command
 * (`feedctl --context prod status`). Other flags before it stay there, and are refused.
 */
export function ordered(argv: readonly string[], globalFlags: GlobalFlags): string[] {
  let start = 0;
  while (start < argv.length) {
    const words = wordsOf(argv[start]!, globalFlags);
    if (words === undefined) break;
    start += words;
  }
  const [flags, rest] = [argv.slice(0, start), argv.slice(start)];
  const [first, ...others] = rest;
  if (first === undefined) return [...argv];
  if (VERSION.has(first))
    return flags.length + others.length === 0 ? ['--version'] : ['version', ...flags, ...others];
  const end = rest.includes('--') ? rest.indexOf('--') : rest.length;
  // `help` prints the same in every cluster.
  return [...rest.slice(0, end), ...(first === 'help' ? [] : flags), ...rest.slice(end)];
}

/** Returns the number of words that a flag of all commands takes, or undefined for another word. */
function wordsOf(word: string, globalFlags: GlobalFlags): number | undefined {
  const found = Object.entries(globalFlags).find(([name, { char }]) =>
    word.startsWith('--') ? word.split('=', 1)[0] === `--${name}` : char && word.startsWith(`-${char}`),
  );
  if (!found) return undefined;
  const hasValue = word.startsWith('--') ? word.includes('=') : word.length > 2;
  return found[1].type === 'option' && !hasValue ? 2 : 1;
}
