import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { FeedctlError } from '../model/errors.ts';
import { type Context, readContext } from './contexts.ts';
import { readSecret, type Secret } from './secrets.ts';
import { parseBoolean, SETTINGS, type SettingName, settingProblem } from './settings.ts';

export type { SettingName };

interface Settings {
  readonly dataDir: string;
  readonly databaseUrl?: string | undefined;
  readonly store?: 'citus' | 'postgres' | undefined;
  readonly brokerUrl?: string | undefined;
  readonly brokerManagementUrl?: string | undefined;
  readonly cacheUrl?: string | undefined;
  readonly gatewayUrl?: string | undefined;
  readonly kubeContext?: string | undefined;
  readonly namespace?: string | undefined;
  readonly production: boolean;
}

export type Source = 'flag' | 'environment' | 'context' | 'default';

export interface Config extends Settings {
  readonly context: string;
  /** The database is the embedded one of `dataDir`, because no database URL is set. */
  readonly embedded: boolean;
  /** Source of each value. */
  readonly sources: Readonly<Record<SettingName, Source>>;
}

export interface ConfigFlags {
  context?: string;
  dataDir?: string;
  databaseUrl?: string;
  brokerUrl?: string;
  cacheUrl?: string;
  gatewayUrl?: string;
  kubeContext?: string;
  namespace?: string;
}

/**
 * PostgreSQL does not run as root, and the user that it runs as then cannot enter root's home. So
 * root's default is a system directory.
 */
function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/lib/feedctl';
  return join(env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'feedctl');
}

/** Throws CONFIG_INVALID for a value that commands would refuse. */
export function checkSettings(values: Partial<Record<SettingName, unknown>>): void {
  const problem = settingProblem(values);
  if (problem) throw new FeedctlError('CONFIG_INVALID', `${problem.name} ${problem.why}`);
}

/**
 * Refuses passwords in flags, because every user of the machine sees them. Throws SECRET_IN_FLAG.
 */
export function refuseSecrets(flags: ConfigFlags): void {
  const values = flags as Record<string, string | undefined>;
  for (const [name, { flag, secret }] of Object.entries<{ flag?: string; secret: boolean }>(SETTINGS)) {
    // One URL may name several hosts, separated by commas too.
    const urls = (secret && flag && values[name]?.split(/,(?=\s*[a-z+]+:\/\/)/i)) || [];
    if (urls.some((one) => /^\s*[a-z+]+:\/\/[^/@]*:.+@|[?&](sentinel_)?password=/i.test(one)))
      throw new FeedctlError('SECRET_IN_FLAG', `--${flag} contains a password`);
  }
}

/**
 * Merges flags, environment, context file and defaults, in this order, and checks the result.
 * Throws CONFIG_INVALID, CONTEXT_NOT_FOUND or SECRET_IN_FLAG.
 */
export async function loadConfig(flags: ConfigFlags, env: NodeJS.ProcessEnv = process.env): Promise<Config> {
  refuseSecrets(flags);
  const { name, context } = await readContext(env, flags.context);
  return merged(flags, env, name, context);
}

/**
 * Returns the configuration of a cluster that exists for one run only: the values of its flags. A server that
 * a context or a variable names is in use by another cluster. `files`: of values that may hold a password.
 * Throws CONFIG_INVALID or SECRET_IN_FLAG.
 */
export async function flagsOnly(
  flags: ConfigFlags,
  files: Partial<Record<SettingName, string>>,
): Promise<Config> {
  refuseSecrets(flags);
  const read: Partial<Record<SettingName, string>> = {};
  for (const [name, file] of Object.entries(files) as [SettingName, string][])
    read[name] = await readSecret(name, { file }, {});
  return merged({ ...flags, ...read }, {}, 'local', {});
}

async function merged(
  flags: ConfigFlags,
  env: NodeJS.ProcessEnv,
  name: string,
  context: Context,
): Promise<Config> {
  const stored: Record<string, unknown> = { ...context };
  const values: Partial<Record<SettingName, unknown>> = {};
  const sources = {} as Record<SettingName, Source>;
  for (const key of Object.keys(SETTINGS) as SettingName[]) {
    const candidates: [Source, unknown][] = [
      ['flag', (flags as Record<string, unknown>)[key]],
      ['environment', env[SETTINGS[key].variable] || undefined],
      ['context', stored[key] ?? stored[`${key}From`]],
      ['default', { dataDir: defaultDataDir(env), production: false }[key as string]],
    ];
    const [source, value] = candidates.find(([, candidate]) => candidate !== undefined) ?? [
      'default',
      undefined,
    ];
    // A flag or a variable overrides the context, so the command of a secret does not run for
    // nothing.
    const secret = source === 'context' && stored[key] === undefined;
    values[key] = secret ? await readSecret(key, value as Secret, env) : value;
    sources[key] = source;
  }
  const problem = settingProblem(values);
  if (problem)
    throw new FeedctlError(
      'CONFIG_INVALID',
      `${problem.name} (from ${sources[problem.name]}) ${problem.why}`,
    );
  // `settingProblem` has checked the type of every value.
  const settings = values as unknown as Settings;
  return {
    ...settings,
    dataDir: resolve(settings.dataDir),
    production: parseBoolean(String(settings.production)) ?? false,
    context: name,
    embedded: settings.databaseUrl === undefined,
    sources,
  };
}
