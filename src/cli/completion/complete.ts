import type { Command } from '@oclif/core';

/** Names that are not in the manifest, because they change. */
export interface CompletionSources {
  contexts(): Promise<readonly string[]>;
  queues(): Promise<readonly string[]>;
  /** Addresses of the nodes, host:port; none if the database does not answer within a second. */
  nodes(): Promise<readonly string[]>;
}

type Known = Pick<Command.Loadable, 'id' | 'hidden' | 'flags' | 'args'>;

/**
 * Returns the possible completions of the last word, which may be empty. `words` does not include `feedctl`.
 * Returns none if any text is possible: the shell then offers files.
 */
export async function completions(
  commands: readonly Known[],
  words: readonly string[],
  sources: CompletionSources,
): Promise<string[]> {
  const word = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const starting = (candidates: readonly string[]) =>
    [...new Set(candidates)].filter((one) => one.startsWith(word)).sort();
  const shown = commands.filter(({ hidden }) => !hidden);
  const command = commandOf(shown, before);
  if (!command) return starting(namesAfter(shown, before));

  const { flags, awaiting, place } = readWords(command, before.slice(command.id.split(':').length));
  const valued = awaiting ?? /^--([\w-]+)=/.exec(word)?.[1];
  if (valued !== undefined) {
    const values = await valuesOf(valued, command.flags[valued], command, sources);
    return starting(awaiting === undefined ? values.map((value) => `--${valued}=${value}`) : values);
  }
  if (word.startsWith('-')) {
    const free = Object.entries(command.flags).filter(
      ([name, flag]) => !flag.hidden && (!flags.has(name) || (flag.type === 'option' && flag.multiple)),
    );
    return starting(
      free.flatMap(([name, flag]) => [
        `--${name}`,
        ...(flag.type === 'boolean' && flag.allowNo ? [`--no-${name}`] : []),
      ]),
    );
  }
  const [name, arg] = Object.entries(command.args)[place] ?? [];
  return name === undefined ? [] : starting(await valuesOf(name, arg, command, sources));
}

/** Returns the command that the words begin with. */
function commandOf(commands: readonly Known[], words: readonly string[]): Known | undefined {
  for (let length = words.length; length > 0; length -= 1) {
    const id = words.slice(0, length).join(':');
    const command = commands.find((one) => one.id === id);
    if (command) return command;
  }
  return undefined;
}

/** Returns the next part of each command name that begins with these words. */
function namesAfter(commands: readonly Known[], words: readonly string[]): string[] {
  return commands
    .map(({ id }) => id.split(':'))
    .filter((name) => name.length > words.length && words.every((word, at) => word === name[at]))
    .map((name) => name[words.length]!);
}

/** Returns the flags that were given, the one that awaits its value, and the number of arguments. */
function readWords(
  command: Known,
  words: readonly string[],
): { flags: Set<string>; awaiting: string | undefined; place: number } {
  const flags = new Set<string>();
  let awaiting: string | undefined;
  let place = 0;
  for (const word of words) {
    if (awaiting !== undefined) awaiting = undefined;
    else if (word.startsWith('-')) {
      const name = nameOf(command, word.split('=')[0]!);
      if (name === undefined) continue;
      flags.add(name);
      if (command.flags[name]!.type === 'option' && !word.includes('=')) awaiting = name;
    } else place += 1;
  }
  return { flags, awaiting, place };
}

function nameOf(command: Known, word: string): string | undefined {
  const long = word.replace(/^--(no-)?/, '');
  return Object.keys(command.flags).find((name) => name === long || `-${command.flags[name]!.char}` === word);
}

async function valuesOf(
  name: string,
  value: { readonly options?: readonly string[] | undefined } | object | undefined,
  { id }: Known,
  sources: CompletionSources,
): Promise<readonly string[]> {
  if (value && 'options' in value && value.options) return value.options;
  if (name === 'context' || name === 'context-name') return sources.contexts();
  if (name === 'name' && id.startsWith('context:') && id !== 'context:add') return sources.contexts();
  if (name === 'queue') return sources.queues();
  if (name === 'node' && id !== 'node:add') return sources.nodes();
  return [];
}
