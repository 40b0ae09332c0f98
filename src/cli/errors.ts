import { styleText } from 'node:util';
import { ERRORS, FeedctlError, isFeedctlError, messageOf } from '../engine/model/errors.ts';
import type { Format } from './outputFormat.ts';

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
  if (oclif) return new FeedctlError('USAGE', text.replace(/\s*\n\s*/g, ' '), { cause: error });
  return new FeedctlError('INTERNAL', text || 'an unexpected error', { cause: error });
}

export function errorJson(error: FeedctlError): {
  error: { code: string; message: string; suggestions: readonly string[] };
} {
  return { error: { code: error.code, message: error.message, suggestions: error.suggestions } };
}

/** Prints a value for programs to stdout, in place of the result, or text to stderr. */
export async function printError(
  error: FeedctlError,
  options: { format: Format; debug: boolean },
): Promise<void> {
  if (options.format !== 'text') {
    await printValue(errorJson(error), options.format);
  } else {
    const paint = (style: Parameters<typeof styleText>[0], text: string) =>
      styleText(style, text, { stream: process.stderr });
    const lines = [`${paint(['red', 'bold'], 'Error:')} ${error.message} ${paint('dim', `(${error.code})`)}`];
    for (const suggestion of error.suggestions) lines.push(`${paint('cyan', '  Try:')} ${suggestion}`);
    process.stderr.write(`${lines.join('\n')}\n`);
  }
  if (options.debug) process.stderr.write(`${(error.cause as Error)?.stack ?? error.stack}\n`);
}

/** Prints a value as JSON or YAML. */
export async function printValue(value: unknown, format: Exclude<Format, 'text'>): Promise<void> {
  if (format === 'json') process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  else process.stdout.write((await import('./yaml.ts')).yamlText(value));
}

/** Returns whether oclif found no command for a command line. */
export const isUnknownCommand = (error: unknown): boolean =>
  !isFeedctlError(error) &&
  (/^command .* not found/i.test(messageOf(error)) ||
    (error as { oclif?: { exit?: number } }).oclif?.exit === 127);
