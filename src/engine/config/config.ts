import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { FeedctlError } from '../model/errors.ts';
import { ServerUrl } from '../util/serverUrl.ts';
import { splitUrls } from '../util/urlList.ts';
import { readClusterState } from './clusterState.ts';
import { type Context, readContext } from './contexts.ts';
import { readSecret, type Secret } from './secrets.ts';
import { fileVariable, parseBoolean, SETTINGS, type SettingName, settingProblem } from './settings.ts';

export type { SettingName };

interface Settings {
  readonly dataDir: string;
  readonly databaseUrl?: string | undefined;
  readonly store?: 'citus' | 'postgres' | undefined;
  readonly databaseDisk?: string | undefined;
  readonly brokerUrl?: string | undefined;
  readonly brokerManagementUrl?: string | undefined;
  readonly cacheUrl?: string | undefined;
  readonly gatewayUrl?: string | undefined;
  readonly kubeContext?: string | undefined;
  readonly namespace?: string | undefined;
  readonly production: boolean;
}

/** `cluster`: the embedded cluster that runs uses it. */
export type Source = 'flag' | 'environment' | 'context' | 'cluster' | 'default';

export interface Config extends Settings {
  readonly context: string;
  /** The database is the embedded one of `dataDir`, because no database URL is set. */
  readonly embedded: boolean;
  /** Source of each value. */
  readonly sources: Readonly<Record<SettingName, Source>>;
  /** The URLs that a file or a command supplies, which may change while the process runs. */
  readonly sourced?: Readonly<Partial<Record<SettingName, ServerUrl>>>;
}

/** Returns the URL of a server as new connections need it, or undefined if the setting has no value. */
export function serverUrl(
  config: Config,
  name: 'databaseUrl' | 'brokerUrl' | 'cacheUrl',
): ServerUrl | undefined {
  const url = config[name];
  return url === undefined ? undefined : (config.sourced?.[name] ?? new ServerUrl(url));
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
 * Refuses passwords in flags, because every user of the machine sees them. `fileFlags`: the command takes
 * such a URL from a file that another flag names, and not from the environment. Throws SECRET_IN_FLAG.
 */
export function refuseSecrets(flags: ConfigFlags, fileFlags = false): void {
  const values = flags as Record<string, string | undefined>;
  for (const [name, { flag, secret }] of Object.entries<{ flag?: string; secret: boolean }>(SETTINGS)) {
    const urls = secret && flag ? splitUrls(values[name] ?? '') : [];
    if (urls.some((one) => /^\s*[a-z+]+:\/\/[^/@]*:.+@|[?&](sentinel_)?password=/i.test(one)))
      throw new FeedctlError('SECRET_IN_FLAG', `--${flag} contains a password`, {
        ...(fileFlags && { suggestions: [`Write the URL to a file, and pass \`--${flag}-file FILE\`.`] }),
      });
  }
}

/**
 * Merges flags, environment, context file and defaults, in this order, and checks the result.
 * Throws CONFIG_INVALID, CONTEXT_NOT_FOUND or SECRET_IN_FLAG.
 */
export async function loadConfig(flags: ConfigFlags, env: NodeJS.ProcessEnv = process.env): Promise<Config> {
  refuseSecrets(flags);
  const { name, context } = await readContext(env, flags.context);
  const config = await merged(flags, env, name, context);
  return config.embedded ? withServers(config) : config;
}

/** Adds the broker and the cache of the embedded cluster that runs, so that its commands use them too. */
async function withServers(config: Config): Promise<Config> {
  const state = await readClusterState(config.dataDir);
  const sources: Record<SettingName, Source> = { ...config.sources };
  for (const name of ['brokerUrl', 'cacheUrl'] as const)
    if (config[name] === undefined && state?.[name]) sources[name] = 'cluster';
  return {
    ...config,
    brokerUrl: config.brokerUrl ?? state?.brokerUrl,
    cacheUrl: config.cacheUrl ?? state?.cacheUrl,
    sources,
  };
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
  refuseSecrets(flags, true);
  const read: Partial<Record<SettingName, string>> = {};
  for (const [name, file] of Object.entries(files) as [SettingName, string][])
    read[name] = await readSecret(name, { file }, {});
  return merged({ ...flags, ...read }, {}, 'local', {});
}

/**
 * Returns the name of the cluster that output shows. A context names its own cluster. A flag or a variable
 * may name another database, so the name is made of that URL.
 */
function shownName(context: string, source: Source, databaseUrl: string | undefined): string {
  if (databaseUrl === undefined || source === 'context') return context;
  const address = /^[a-z]+:\/\/(?:[^/?]*@)?([^/?]*)\/?([^?]*)/i.exec(databaseUrl);
  const [, host = '', name = ''] = address ?? [];
  return `${name || 'postgres'}${host ? `@${host}` : ''}`;
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
  const secrets: Partial<Record<SettingName, Secret>> = {};
  for (const key of Object.keys(SETTINGS) as SettingName[]) {
    const candidates: [Source, unknown, Secret?][] = [
      ['flag', (flags as Record<string, unknown>)[key]],
      ['environment', env[SETTINGS[key].variable] || undefined, fileInEnvironment(key, env)],
      ['context', stored[key], stored[`${key}From`] as Secret | undefined],
      ['default', { dataDir: defaultDataDir(env), production: false }[key as string]],
    ];
    const [source, value, secret] = candidates.find(
      ([, candidate, from]) => candidate !== undefined || from !== undefined,
    ) ?? ['default', undefined];
    // A flag or a variable overrides the context, so the command of a secret does not run for
    // nothing.
    const read = value === undefined && secret;
    if (read) secrets[key] = secret;
    values[key] = read ? await readSecret(key, secret, env) : value;
    sources[key] = source;
  }
  const problem = settingProblem(values);
  if (problem)
    throw new FeedctlError(
      'CONFIG_INVALID',
      `${namedBy(problem.name, sources[problem.name], name)} ${problem.why}`,
    );
  // `settingProblem` has checked the type of every value.
  const settings = values as unknown as Settings;
  return {
    ...settings,
    dataDir: resolve(settings.dataDir),
    production: parseBoolean(String(settings.production)) ?? false,
    context: shownName(name, sources.databaseUrl, settings.databaseUrl),
    embedded: settings.databaseUrl === undefined,
    sources,
    sourced: rereadable(values, secrets, env),
  };
}

/** Returns the words with which a setting was given: a flag, a variable or a setting of a context. */
function namedBy(key: SettingName, source: Source, context: string): string {
  const { flag, variable } = SETTINGS[key] as { flag?: string; variable: string };
  if (source === 'flag') return flag ? `--${flag}` : key;
  if (source === 'environment') return variable;
  return source === 'context' ? `${key} of the context ${context}` : key;
}

/** Returns the file that a variable names: `FEEDCTL_DATABASE_URL_FILE`. Throws CONFIG_INVALID. */
function fileInEnvironment(key: SettingName, env: NodeJS.ProcessEnv): Secret | undefined {
  const { variable, secret } = SETTINGS[key];
  const name = fileVariable(variable);
  const file = (secret && env[name]) || undefined;
  if (file && env[variable])
    throw new FeedctlError('CONFIG_INVALID', `${variable} and ${name} are both set: remove one of them`);
  return file === undefined ? undefined : { file };
}

/** Returns the URLs whose source can show another value. A variable of a process cannot. */
function rereadable(
  values: Partial<Record<SettingName, unknown>>,
  secrets: Partial<Record<SettingName, Secret>>,
  env: NodeJS.ProcessEnv,
): Partial<Record<SettingName, ServerUrl>> {
  const urls: Partial<Record<SettingName, ServerUrl>> = {};
  for (const [key, secret] of Object.entries(secrets) as [SettingName, Secret][]) {
    if ('env' in secret) continue;
    const first = values[key] as string;
    urls[key] = new ServerUrl(first, async () => {
      const url = await readSecret(key, secret, env);
      checkSettings({ [key]: url });
      // Another database may belong to another cluster.
      if (pathOf(url) !== pathOf(first))
        throw new FeedctlError('CONFIG_INVALID', `${key}: the source now names another database`);
      return url;
    });
  }
  return urls;
}

/** Returns the database, the virtual host or the number of a URL. */
const pathOf = (url: string): string | undefined => /^\s*[\w+]+:\/\/[^/?#]*\/?([^?#,]*)/.exec(url)?.[1];
