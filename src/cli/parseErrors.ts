import { stripVTControlCharacters } from 'node:util';
import { FeedctlError, isFeedctlError, messageOf } from '../engine/model/errors.ts';
import { nearest } from './nearest.ts';
import { flagWords } from './outputFormat.ts';

interface Flag {
  readonly type: string;
  readonly char?: string | undefined;
  readonly options?: readonly string[] | undefined;
  readonly description?: string | undefined;
  readonly helpValue?: string | readonly string[] | undefined;
  readonly env?: string | undefined;
  readonly hidden?: boolean | undefined;
  readonly aliases?: readonly string[] | undefined;
  readonly min?: number;
  readonly max?: number;
}

interface Arg {
  readonly name?: string;
  readonly description?: string | undefined;
  readonly options?: readonly string[] | undefined;
  readonly min?: number;
  readonly max?: number;
}

/** The command whose words could not be parsed. */
export interface ParsedCommand {
  /** Words of its name, such as `feed show`. */
  readonly name: string;
  readonly flags: Readonly<Record<string, Flag>>;
  readonly args: Readonly<Record<string, Arg>>;
  /** Command lines of its help. */
  readonly examples: readonly string[];
}

/** Fields of the errors of oclif's parser. */
interface ParserError {
  readonly args?: readonly (string | Arg)[];
  readonly flags?: readonly string[];
}

type Explained = { readonly message: string; readonly suggestions?: readonly string[] };

const HELP_HINT = /\s*\n\s*See more help with --help\s*$/;

/**
 * Translates each kind of error of the parser: what is wrong, with the name of the flag, the argument or the
 * variable, and how to fix it. Returns undefined for an error that is none of the parser.
 */
export function explainParseError(
  error: unknown,
  command: ParsedCommand,
  words: readonly string[],
): FeedctlError | undefined {
  const explained = explain(error, command, words);
  if (explained === undefined || isFeedctlError(explained)) return explained;
  const help = `See \`feedctl ${command.name} --help\`.`;
  const suggestions = [...(explained.suggestions ?? []), help];
  return new FeedctlError('USAGE', explained.message, { cause: error, suggestions });
}

function explain(
  error: unknown,
  command: ParsedCommand,
  words: readonly string[],
): Explained | FeedctlError | undefined {
  const { args, flags } = error as ParserError;
  switch ((error as Error).constructor.name) {
    case 'RequiredArgsError':
      return missingArgs(args as readonly Arg[], command);
    case 'UnexpectedArgsError':
      return unexpectedArgs(args as readonly string[], command);
    case 'NonExistentFlagsError':
      return unknownFlags(flags!, command);
    case 'FailedFlagValidationError':
      return failedFlags(messageOf(error).replace(HELP_HINT, ''), command);
    default: {
      // The value of a mistyped flag is taken for an argument, whose error would hide the mistake.
      const unknown = unknownIn(words, command.flags);
      return unknown.length > 0 ? unknownFlags(unknown, command) : badValue(error, command, words);
    }
  }
}

/** Returns the long flags of a command line that the command does not have. */
function unknownIn(words: readonly string[], flags: ParsedCommand['flags']): string[] {
  const unknown: string[] = [];
  for (let at = 0; at < words.length && words[at] !== '--'; at += 1) {
    const [, given, value] = /^--([\w-]+)(=.*)?$/s.exec(words[at]!) ?? [];
    if (given === undefined) continue;
    const flag = Object.entries(flags).find(
      ([name, { aliases = [] }]) => [name, ...aliases].includes(given) || `no-${name}` === given,
    )?.[1];
    if (!flag) unknown.push(words[at]!);
    else if (flag.type === 'option' && value === undefined) at += 1;
  }
  return unknown;
}

function missingArgs(args: readonly Arg[], command: ParsedCommand): Explained {
  const about = ({ description }: Arg) => (description ? `: ${description}` : '');
  const missing = args.map((arg) => `${arg.name!.toUpperCase()} is missing${about(arg)}`);
  return { message: missing.join('; '), suggestions: exampleOf(command) };
}

function unexpectedArgs(extra: readonly string[], { name, args }: ParsedCommand): Explained {
  const places = Object.keys(args).map((arg) => arg.toUpperCase());
  const takes = places.length === 0 ? 'no argument' : `only ${places.join(' and ')}`;
  return { message: `\`${name}\` takes ${takes}, but \`${extra.join(' ')}\` was given too` };
}

function unknownFlags(unknown: readonly string[], command: ParsedCommand): Explained | FeedctlError {
  // A command without a place for it takes a negative number for a flag.
  const negative = unknown.find((word) => /^-\d+$/.test(word));
  if (negative) return new FeedctlError('INVALID_ID', `${JSON.stringify(negative)} is not an id`);
  const known = Object.entries(command.flags)
    .filter(([, { hidden }]) => !hidden)
    .flatMap(([name, { aliases = [] }]) => [name, ...aliases]);
  const said = unknown.map((word) => {
    const [flag = word] = word.split('=', 1);
    const meant = flag.startsWith('--') ? nearest(flag.slice(2), known) : undefined;
    return `there is no flag \`${flag}\`${meant ? `: did you mean \`--${meant}\`?` : ''}`;
  });
  return { message: said.join('; ') };
}

/** Reasons of the parser, with the flag of each and the flags that it names. */
const REASONS: readonly [
  pattern: RegExp,
  say: (flag: string, others: readonly string[], all: All) => string,
][] = [
  [
    /^All of the following must be provided when using --([\w-]+): (.*)$/,
    (flag, others, all) => `--${flag} needs ${all(others)} too`,
  ],
  [
    /^One of the following must be provided when using --([\w-]+): (.*)$/,
    (flag, others) => `--${flag} needs one of ${list(others)} too`,
  ],
  [
    /^Only the following can be provided when using --([\w-]+): (.*)$/,
    (flag, others) => `with --${flag} only ${list(others)} may be given`,
  ],
  [
    /^(?=--([\w-]+)[= ])[\s\S]* cannot also be provided when using (--[\w-]+)$/,
    (flag, others) => `${list([flag, ...others].sort())} exclude each other: pass one of them`,
  ],
  [
    /^(Exactly) one of the following must be provided: (.*)$/,
    (_, others) => `one of ${list(others)} is needed`,
  ],
  [
    /^(At least) one of the following must be provided: (.*)$/,
    (_, others) => `at least one of ${list(others)} is needed`,
  ],
];

type All = (flags: readonly string[]) => string;

/** The parser keeps its reasons in the message only, one a line. */
function failedFlags(message: string, command: ParsedCommand): Explained {
  const { flags } = command;
  const reasons = stripVTControlCharacters(message)
    .split('\n')
    .slice(1)
    .map((line) => line.trim());
  const all: All = (names) => names.map((name) => usageOf(name, flags[name])).join(' and ');
  const missing = reasons.flatMap((reason) => /^Missing required flag ([\w-]+)$/.exec(reason)?.[1] ?? []);
  const said = missing.length > 0 ? [`${all(missing)} ${missing.length === 1 ? 'is' : 'are'} missing`] : [];
  for (const reason of reasons) {
    for (const [pattern, say] of REASONS) {
      const [, flag = '', others = ''] = pattern.exec(reason) ?? [];
      if (flag)
        said.push(
          say(
            flag,
            others.split(', ').map((name) => name.replace(/^--/, '')),
            all,
          ),
        );
    }
  }
  return {
    // An unknown reason is better than none.
    message: [...new Set(said)].join('; ') || reasons.join('; '),
    ...(missing.length > 0 && { suggestions: exampleOf(command, missing) }),
  };
}

const list = (flags: readonly string[]): string => [...new Set(flags)].map((flag) => `--${flag}`).join(', ');

/** A flag with its values, such as `--lane live|bulk|all`. */
function usageOf(name: string, flag: Flag | undefined): string {
  if (!flag || flag.type === 'boolean') return `--${name}`;
  const [help = '<value>'] = [flag.helpValue ?? '<value>'].flat();
  return `--${name} ${flag.options?.join('|') ?? help}`;
}

/** Returns an example of the help that has these flags. */
function exampleOf({ examples }: ParsedCommand, flags: readonly string[] = []): string[] {
  const fitting = examples.filter((line) => flags.every((flag) => line.includes(`--${flag}`)));
  const example = fitting.find((line) => !line.includes('--json')) ?? fitting[0];
  return example === undefined ? [] : [`For example: \`${example}\`.`];
}

function badValue(
  error: unknown,
  command: ParsedCommand,
  words: readonly string[],
): Explained | FeedctlError | undefined {
  const text = messageOf(error).replace(HELP_HINT, '');
  const twice = /^Flag --([\w-]+) can only be specified once$/.exec(text);
  if (twice) return { message: `--${twice[1]} was given twice, and takes one value` };
  const bare = /^Flag --([\w-]+) expects (?:a value|one of these values)/.exec(text);
  if (bare) {
    const usage = usageOf(bare[1]!, command.flags[bare[1]!]);
    return { message: `--${bare[1]} needs a value: \`${usage}\`` };
  }
  const option = /^Expected (?:--([\w-]+)=)?(.*) to be one of: (.*)$/s.exec(text);
  if (option) {
    const [, flag, value = '', options = ''] = option;
    const name = flag === undefined ? argWith(command, options) : givenAs(flag, command, words);
    return notAnOption(`${name} ${shown(value)}`, value, options.split(', '));
  }
  const parsing = /^Parsing --([\w-]+)\s+([\s\S]*)$/.exec(text);
  const reason = parsing?.[2] ?? text;
  const flag = parsing?.[1];
  const number = /^Expected an integer .*?received: ([\s\S]*)$/.exec(reason);
  if (number) {
    const definition = flag === undefined ? argRefusing(command, number[1]!) : command.flags[flag];
    const name =
      flag === undefined
        ? ((definition as Arg | undefined)?.name?.toUpperCase() ?? 'the argument')
        : givenAs(flag, command, words);
    return { message: `${name} ${shown(number[1]!)} is not ${numberIn(definition ?? {})}` };
  }
  if (isFeedctlError(error)) {
    if (flag === undefined) return error;
    const name = givenAs(flag, command, words);
    const message = `${name}: ${reason}`;
    const { code, suggestions } = error;
    return code === 'USAGE'
      ? { message }
      : new FeedctlError(code, message, { cause: error, suggestions: [...suggestions] });
  }
  return undefined;
}

/** A value as it was typed, with quotes where its end would not be seen. */
const shown = (value: string): string => (/^[\w.,:+-]+$/.test(value) ? value : JSON.stringify(value));

function notAnOption(name: string, value: string, options: readonly string[]): Explained {
  const meant = nearest(value, options);
  return {
    message: `${name} is not one of ${options.join(', ')}${meant ? `: did you mean ${meant}?` : ''}`,
  };
}

/** Returns `--flag`, or the variable if no word of the command line holds the flag. */
function givenAs(name: string, { flags }: ParsedCommand, words: readonly string[]): string {
  const { env, char, aliases = [] } = flags[name] ?? { type: 'option' };
  const given = flagWords(words).some(
    (word) =>
      [name, ...aliases].includes(word.replace(/^--/, '').split('=', 1)[0]!) ||
      (char !== undefined && /^-[^-]/.test(word) && word.startsWith(`-${char}`)),
  );
  return !given && env && process.env[env] !== undefined ? env : `--${name}`;
}

const argWith = ({ args }: ParsedCommand, options: string): string =>
  Object.entries(args)
    .find(([, arg]) => arg.options?.join(', ') === options)?.[0]
    .toUpperCase() ?? 'the argument';

/** Returns the argument that does not accept this text: only one with a range is a number. */
function argRefusing({ args }: ParsedCommand, text: string): Arg | undefined {
  const found = Object.entries(args).find(([, { min, max }]) => {
    const ranged = min !== undefined || max !== undefined;
    return (
      ranged && !(/^-?\d+$/.test(text) && Number(text) >= (min ?? 0) && Number(text) <= (max ?? Infinity))
    );
  });
  return found && { ...found[1], name: found[0] };
}

function numberIn({ min, max }: { readonly min?: number; readonly max?: number }): string {
  const whole = 'a whole number';
  if (min !== undefined && max !== undefined) return `${whole} from ${min} to ${max}`;
  if (min !== undefined) return `${whole} of ${min} or more`;
  return max === undefined ? whole : `${whole} of ${max} or less`;
}
