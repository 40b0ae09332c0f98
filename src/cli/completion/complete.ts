import type { Command } from '@oclif/core';

/** A word that may stand in the place, with a description for shells that show one. */
export interface Candidate {
  readonly value: string;
  readonly about?: string | undefined;
}

type Find = () => Promise<readonly Candidate[]>;

/** Names that are not in the manifest, because they change. A database that does not answer has none. */
export interface CompletionSources {
  readonly contexts: Find;
  readonly queues: Find;
  /** Error codes. */
  readonly codes: Find;
  /** Addresses of the nodes, host:port. */
  readonly nodes: Find;
  readonly workers: Find;
  readonly gateways: Find;
  readonly operations: Find;
  /** Dead letters. */
  readonly letters: Find;
}

type Known = Pick<Command.Loadable, 'id' | 'hidden' | 'flags' | 'args' | 'summary'>;

/**
 * Returns the possible completions of the last word, which may be empty. `words` does not include `feedctl`.
 * Returns none if any text is possible: the shell then offers files.
 */
export async function completions(
  commands: readonly Known[],
  words: readonly string[],
  sources: CompletionSources,
  topics: readonly { readonly name: string; readonly about: string | undefined }[] = [],
): Promise<Candidate[]> {
  const word = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const starting = (candidates: readonly Candidate[]) => {
    const found = new Map(candidates.map((one) => [one.value, one] as const));
    return [...found.values()]
      .filter(({ value }) => value.startsWith(word))
      .sort((a, b) => (a.value < b.value ? -1 : 1));
  };
  const shown = commands.filter(({ hidden }) => !hidden);
  const command = commandOf(shown, before);
  if (!command) return starting(namesAfter(shown, before, topics));

  const { flags, awaiting, place } = readWords(command, before.slice(command.id.split(':').length));
  const valued = awaiting ?? /^--([\w-]+)=/.exec(word)?.[1];
  if (valued !== undefined) {
    const values = await valuesOf(valued, command.flags[valued], command, sources);
    return starting(
      awaiting === undefined
        ? values.map(({ value, about }) => ({ value: `--${valued}=${value}`, about }))
        : values,
    );
  }
  if (word.startsWith('-')) {
    const free = Object.entries(command.flags).filter(
      ([name, flag]) => !flag.hidden && (!flags.has(name) || (flag.type === 'option' && flag.multiple)),
    );
    return starting(
      free.flatMap(([name, { description: about, ...flag }]) => [
        { value: `--${name}`, about },
        ...(flag.type === 'boolean' && flag.allowNo ? [{ value: `--no-${name}`, about }] : []),
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
function namesAfter(
  commands: readonly Known[],
  words: readonly string[],
  topics: readonly { readonly name: string; readonly about: string | undefined }[],
): Candidate[] {
  return commands.flatMap(({ id, summary }) => {
    const name = id.split(':');
    if (name.length <= words.length || !words.every((word, at) => word === name[at])) return [];
    const value = name[words.length]!;
    const isTopic = name.length > words.length + 1;
    return { value, about: isTopic ? topics.find((topic) => topic.name === value)?.about : summary };
  });
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
): Promise<readonly Candidate[]> {
  if (value && 'options' in value && value.options) return value.options.map((one) => ({ value: one }));
  const source = sourceOf(name, id);
  return source ? sources[source]() : [];
}

/** Returns where the values of an argument or a flag come from; undefined if any text is possible. */
function sourceOf(name: string, id: string): keyof CompletionSources | undefined {
  const [topic, action] = id.split(':');
  if (name === 'context' || name === 'context-name') return 'contexts';
  if (name === 'name' && topic === 'context' && action !== 'add') return 'contexts';
  if (name === 'node' && action !== 'add') return 'nodes';
  if (name === 'id' && topic === 'operation') return 'operations';
  if (name === 'id' && topic === 'dlq') return 'letters';
  const others = { queue: 'queues', worker: 'workers', gateway: 'gateways', code: 'codes' } as const;
  return others[name as keyof typeof others];
}
