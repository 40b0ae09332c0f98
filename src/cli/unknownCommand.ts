import { distance } from 'fastest-levenshtein';
import { FeedctlError } from '../engine/model/errors.ts';

/** Maximum share of wrong letters in a name that is still taken for a typing error. */
const MAX_DISTANCE = 0.4;

/** Explains a command line for which oclif found no command, and suggests the command that was meant. */
export function unknownCommand(
  argv: readonly string[],
  commandIds: readonly string[],
  cause: unknown,
): FeedctlError {
  const firstFlag = argv.findIndex((arg) => arg.startsWith('-'));
  const words = firstFlag === -1 ? [...argv] : argv.slice(0, firstFlag);
  // `feedctl help nosuch` is about `nosuch`.
  if (words.length > 1 && words[0] === 'help') words.shift();
  if (words.length === 0)
    return new FeedctlError(
      'USAGE',
      argv.every((word) => word.startsWith('-'))
        ? 'no command was given'
        : `the command must come before \`${argv[0]}\``,
      { cause, suggestions: ['Put flags after it: `feedctl COMMAND --flag`.', 'See `feedctl --help`.'] },
    );
  const commands = commandIds.map((id) => id.split(':'));
  // oclif takes words after a command without arguments for a part of its name.
  const command = commands.find((name) => name.every((part, at) => part === words[at]))?.join(' ');
  if (command !== undefined)
    return new FeedctlError('USAGE', `\`${command}\` takes no argument, but \`${words.at(-1)}\` was given`, {
      cause,
      suggestions: [`See \`feedctl ${command} --help\`.`],
    });
  const meant = meantBy(words, commands);
  const topic = commands.some(([first]) => first === words[0]) ? `${words[0]} ` : '';
  return new FeedctlError('COMMAND_NOT_FOUND', `there is no command \`${words.join(' ')}\``, {
    cause,
    suggestions: [
      ...meant.map((name) => `\`feedctl ${name}\`, if that was meant.`),
      `See \`feedctl ${topic}--help\`.`,
    ],
  });
}

function meantBy(words: readonly string[], commands: readonly string[][]): string[] {
  let best: { name: string; share: number } | undefined;
  for (const command of commands) {
    const name = command.join(' ');
    const share = distance(words.slice(0, command.length).join(' '), name) / name.length;
    if (share <= MAX_DISTANCE && (!best || share < best.share)) best = { name, share };
  }
  if (best) return [best.name];
  // Perhaps the topic is missing.
  return commands.filter((command) => command.at(-1) === words[0]).map((command) => command.join(' '));
}
