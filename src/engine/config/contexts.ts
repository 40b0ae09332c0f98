import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { FeedctlError, messageOf } from '../model/errors.ts';

const contextFile = z.object({ contexts: z.record(z.string(), z.record(z.string(), z.unknown())) });

const contextFilePath = (env: NodeJS.ProcessEnv): string =>
  join(env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'feedctl', 'contexts.json');

/**
 * The settings of one context. The built-in `local` needs no file and has no settings: it is the embedded cluster.
 * Throws CONTEXT_NOT_FOUND, or CONFIG_INVALID for a file that cannot be read.
 */
export async function readContexts(env: NodeJS.ProcessEnv, name: string): Promise<Record<string, unknown>> {
  const path = contextFilePath(env);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw new FeedctlError('CONFIG_INVALID', `cannot read ${path}: ${messageOf(error)}`, { cause: error });
    }
    text = '{"contexts":{}}';
  }
  let contexts: Record<string, Record<string, unknown>>;
  try {
    contexts = contextFile.parse(JSON.parse(text)).contexts;
  } catch (error) {
    throw new FeedctlError('CONFIG_INVALID', `${path} is not a context file: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const context = contexts[name];
  if (context) return context;
  if (name === 'local') return {};
  const known = ['local', ...Object.keys(contexts)].join(', ');
  throw new FeedctlError('CONTEXT_NOT_FOUND', `there is no context ${JSON.stringify(name)}; known: ${known}`);
}
