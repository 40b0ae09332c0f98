const SOURCES = { $: 'env', '@': 'file', '!': 'command' } as const;

/** Returns the flag of `context add` for an answer: a URL, `$VARIABLE`, `@FILE`, `!COMMAND`, or nothing. */
export function sourceArguments(flag: string, answer: string): string[] {
  if (answer === '') return [];
  const source = SOURCES[answer[0] as keyof typeof SOURCES];
  return source ? [`--${flag}-${source}=${answer.slice(1).trim()}`] : [`--${flag}=${answer}`];
}
