import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { FeedctlError, messageOf } from '../model/errors.ts';

/** A command that has said nothing by then asks somebody who is not there. */
const COMMAND_MS = 10_000;

const named = z.string().min(1);

/** Where a value comes from that a context does not hold itself. */
export const secretSchema = z.union(
  [z.strictObject({ env: named }), z.strictObject({ file: named }), z.strictObject({ command: named })],
  { error: 'must be one of {env}, {file} and {command}' },
);
export type Secret = z.infer<typeof secretSchema>;

/** `key`: whose value it is. A command runs in a shell; its first line counts. Throws CONFIG_INVALID. */
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
      timeout: COMMAND_MS,
    });
    return stdout;
  } catch (error) {
    // Of a command only its end: what it printed may be the secret.
    const { code, killed } = error as { code?: number | string; killed?: boolean };
    const why =
      'command' in secret
        ? `\`${secret.command}\` ${killed ? `took longer than ${COMMAND_MS / 1000} s` : `ended with ${code}`}`
        : messageOf(error);
    throw new FeedctlError('CONFIG_INVALID', `${key}: ${why}`);
  }
}
