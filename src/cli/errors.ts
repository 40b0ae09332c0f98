import { styleText } from 'node:util';
import { ERRORS, FeedctlError, isFeedctlError, messageOf } from '../engine/model/errors.ts';

/**
 * Gives every failure its code: errors of the engine have one, those of the parser become USAGE, and others
 * INTERNAL. A wrong use of `commandId` suggests the help of that command.
 */
export function toFeedctlError(error: unknown, commandId?: string): FeedctlError {
  const mapped = codedError(error);
  if (mapped.code !== 'USAGE' || mapped.suggestions[0] !== ERRORS.USAGE.fix || !commandId) return mapped;
  const help = `See \`feedctl ${commandId.replaceAll(':', ' ')} --help\`.`;
  return new FeedctlError('USAGE', mapped.message, { cause: mapped.cause ?? mapped, suggestions: [help] });
}

function codedError(error: unknown): FeedctlError {
  if (isFeedctlError(error)) return error;
  if ((error as Error).name === 'AbortError')
    return new FeedctlError('INTERRUPTED', 'interrupted', { cause: error });
  const text = messageOf(error).replace(/\nSee more help with --help$/, '');
  const oclif = (error as { oclif?: { exit?: number } }).oclif;
  // The parser reports one fault a line.
  const line = text.replace(/\s*\n\s*/g, ' ');
  const negative = /Nonexistent flags?: .*?(-\d+)/.exec(line);
  if (negative)
    return new FeedctlError('INVALID_ID', `${JSON.stringify(negative[1])} is not an id`, { cause: error });
  // The parser throws plain errors for arguments, unlike those for flags.
  if (oclif || /^Expected an integer/.test(line)) return new FeedctlError('USAGE', line, { cause: error });
  return new FeedctlError('INTERNAL', text || 'an unexpected error', { cause: error });
}

export function errorJson(error: FeedctlError): {
  error: { code: string; message: string; suggestions: readonly string[] };
} {
  return { error: { code: error.code, message: error.message, suggestions: error.suggestions } };
}

/** Prints JSON to stdout, in place of the result, and text to stderr. */
export function printError(error: FeedctlError, options: { json: boolean; debug: boolean }): void {
  if (options.json) {
    process.stdout.write(`${JSON.stringify(errorJson(error), null, 2)}\n`);
  } else {
    const paint = (style: Parameters<typeof styleText>[0], text: string) =>
      styleText(style, text, { stream: process.stderr });
    const lines = [`${paint(['red', 'bold'], 'Error:')} ${error.message} ${paint('dim', `(${error.code})`)}`];
    for (const suggestion of error.suggestions) lines.push(`${paint('cyan', '  Try:')} ${suggestion}`);
    process.stderr.write(`${lines.join('\n')}\n`);
  }
  if (options.debug) process.stderr.write(`${(error.cause as Error)?.stack ?? error.stack}\n`);
}

/** Returns whether oclif found no command for a command line. */
export const isUnknownCommand = (error: unknown): boolean =>
  !isFeedctlError(error) &&
  (/^command .* not found/i.test(messageOf(error)) ||
    (error as { oclif?: { exit?: number } }).oclif?.exit === 127);
