import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { isJsonObject } from '../util/json.ts';

/** A command that has printed nothing by then waits for input that never arrives. */
const COMMAND_TIMEOUT_MS = 10_000;

/** Source of a value that a context does not hold itself. */
export type Secret = { readonly env: string } | { readonly file: string } | { readonly command: string };

/** Returns why a value from a context file names no source, or undefined if it does. */
export function secretProblem(value: unknown): string | undefined {
  const entries = isJsonObject(value) ? Object.entries(value) : [];
  const [name, source] = entries[0] ?? [];
  if (entries.length !== 1 || (name !== 'env' && name !== 'file' && name !== 'command'))
    return 'must be one of {env}, {file} and {command}';
  return typeof source === 'string' && source !== '' ? undefined : `${name} must be text that is not empty`;
}

/**
 * Reads the first line of a source. `key`: name of the setting. A command runs in a shell. Throws
 * CONFIG_INVALID.
 */
export async function readSecret(key: string, secret: Secret, env: NodeJS.ProcessEnv): Promise<string> {
  const value = (await read(key, secret, env)).split('\n', 1)[0]!.trim();
  if (value) return value;
  const where =
    'env' in secret ? `the variable ${secret.env}` : 'file' in secret ? secret.file : `\`${secret.command}\``;
  throw new FeedctlError('CONFIG_INVALID', `${key}: ${where} holds nothing`);
}

async function read(key: string, secret: Secret, env: NodeJS.ProcessEnv): Promise<string> {
  if ('env' in secret) return env[secret.env] ?? '';
  try {
    if ('file' in secret) return await readFile(secret.file, 'utf8');
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', secret.command], {
      env,
      timeout: COMMAND_TIMEOUT_MS,
    });
    return stdout;
  } catch (error) {
    // The error shows only how a command ended. Its output may be the secret.
    const { code, killed } = error as { code?: number | string; killed?: boolean };
    const end = killed ? `took longer than ${COMMAND_TIMEOUT_MS / 1_000} s` : `ended with ${code}`;
    const why = 'command' in secret ? `\`${secret.command}\` ${end}` : messageOf(error);
    throw new FeedctlError('CONFIG_INVALID', `${key}: ${why}`);
  }
}
