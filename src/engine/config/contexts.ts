import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { explainDiskFull, isDiskFull } from '../model/diskFull.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { isJsonObject } from '../util/json.ts';
import { secretProblem } from './secrets.ts';
import { type Context, contextProblem, isSourceKey } from './settings.ts';

export type { Context } from './settings.ts';

interface ContextFile {
  /** Name of the context in use, unless a flag or the environment names one. */
  readonly current?: string;
  readonly contexts: Readonly<Record<string, unknown>>;
}

/** Name of the embedded cluster, which needs no entry. */
const BUILT_IN = 'local';
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

type Environment = NodeJS.ProcessEnv;

export const contextFilePath = (env: Environment): string =>
  join(env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'feedctl', 'contexts.json');

async function readFileOfContexts(env: Environment): Promise<ContextFile> {
  const path = contextFilePath(env);
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { contexts: {} };
    throw new FeedctlError('CONFIG_INVALID', `cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  try {
    return contextFile(JSON.parse(content));
  } catch (error) {
    throw new FeedctlError('CONFIG_INVALID', `${path} is not a context file: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Throws for a value that is no context file. Drops unknown keys. */
function contextFile(value: unknown): ContextFile {
  if (!isJsonObject(value)) throw new TypeError('it must hold a JSON object');
  const { current, contexts = {} } = value;
  if (current !== undefined && typeof current !== 'string') throw new TypeError('current must be text');
  if (!isJsonObject(contexts)) throw new TypeError('contexts must be a JSON object');
  return { ...(current !== undefined && { current }), contexts };
}

/** Replaces the file in one step. Only its owner can read it, because it may name secrets. */
async function writeFileOfContexts(env: Environment, file: ContextFile): Promise<void> {
  const path = contextFilePath(env);
  const next = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(next, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    await rename(next, path);
  } catch (error) {
    await rm(next, { force: true }).catch(() => {});
    if (isDiskFull(error)) throw explainDiskFull(error, dirname(path));
    throw new FeedctlError('CONFIG_INVALID', `cannot write ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function contextOf(file: ContextFile, name: string, env: Environment): Context {
  if (!Object.hasOwn(file.contexts, name)) {
    if (name === BUILT_IN) return {};
    const known = [...new Set([BUILT_IN, ...Object.keys(file.contexts)])].join(', ');
    throw new FeedctlError(
      'CONTEXT_NOT_FOUND',
      `there is no context ${JSON.stringify(name)}; known: ${known}`,
    );
  }
  return checkContext(file.contexts[name], `context ${name} in ${contextFilePath(env)}`);
}

function checkContext(value: unknown, where: string): Context {
  if (!isJsonObject(value)) throw new FeedctlError('CONFIG_INVALID', `${where}: must be a JSON object`);
  for (const [key, setting] of Object.entries(value)) {
    if (setting === undefined) continue;
    const problem = isSourceKey(key) ? secretProblem(setting) : contextProblem(key, setting);
    if (problem) throw new FeedctlError('CONFIG_INVALID', `${where}: ${key}: ${problem}`);
  }
  return value;
}

const nameInUse = (file: ContextFile, env: Environment): string =>
  env.FEEDCTL_CONTEXT || (file.current ?? BUILT_IN);

/**
 * Returns the settings of one context, by default of the current one. The built-in `local` needs no
 * file and has no settings: it is the embedded cluster. Throws CONTEXT_NOT_FOUND, or CONFIG_INVALID
 * for a file that cannot be read.
 */
export async function readContext(
  env: Environment,
  name?: string,
): Promise<{ name: string; context: Context }> {
  const file = await readFileOfContexts(env);
  const selected = name ?? nameInUse(file, env);
  return { name: selected, context: contextOf(file, selected, env) };
}

export interface ListedContext {
  readonly name: string;
  /** Commands work on this context by default. */
  readonly current: boolean;
  readonly context: Context;
}

/** Returns every context, including the built-in one. Throws CONFIG_INVALID. */
export async function listContexts(env: Environment): Promise<ListedContext[]> {
  const file = await readFileOfContexts(env);
  const inUse = nameInUse(file, env);
  const names = [...new Set([BUILT_IN, ...Object.keys(file.contexts).sort()])];
  return names.map((name) => ({
    name,
    current: name === inUse,
    context: contextOf(file, name, env),
  }));
}

/** Throws USAGE for an invalid name, CONTEXT_EXISTS or CONFIG_INVALID. */
export async function addContext(
  env: Environment,
  name: string,
  context: Context,
  options: { use?: boolean; replace?: boolean; dryRun?: boolean } = {},
): Promise<void> {
  if (!NAME.test(name))
    throw new FeedctlError(
      'USAGE',
      `${JSON.stringify(name)} is no name of a context: letters, digits, dots, dashes`,
    );
  const checked = checkContext(context, `context ${name}`);
  const file = await readFileOfContexts(env);
  if (Object.hasOwn(file.contexts, name) && !options.replace)
    throw new FeedctlError('CONTEXT_EXISTS', `there is a context ${name} already`);
  if (options.dryRun) return;
  await writeFileOfContexts(env, {
    ...file,
    ...(options.use && { current: name }),
    contexts: { ...file.contexts, [name]: checked },
  });
}

/** Throws CONTEXT_NOT_FOUND or CONFIG_INVALID. */
export async function selectContext(
  env: Environment,
  name: string,
  options: { dryRun?: boolean } = {},
): Promise<void> {
  const file = await readFileOfContexts(env);
  contextOf(file, name, env);
  if (!options.dryRun) await writeFileOfContexts(env, { ...file, current: name });
}

/**
 * Removes a context. If it was the current one, `local` becomes current. Throws CONTEXT_NOT_FOUND,
 * also for a built-in context without an entry, or CONFIG_INVALID.
 */
export async function removeContext(
  env: Environment,
  name: string,
  options: { dryRun?: boolean } = {},
): Promise<void> {
  const file = await readFileOfContexts(env);
  contextOf(file, name, env);
  if (!Object.hasOwn(file.contexts, name))
    throw new FeedctlError('CONTEXT_NOT_FOUND', `the context ${name} is built in`);
  const { [name]: _, ...contexts } = file.contexts;
  const { current, ...rest } = file;
  if (!options.dryRun)
    await writeFileOfContexts(env, { ...rest, ...(current !== name && current && { current }), contexts });
}
