import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { FeedctlError } from '../model/errors.ts';
import { readContext } from './contexts.ts';
import { readSecret, type Secret } from './secrets.ts';
import { SETTINGS, type SettingName } from './settings.ts';

export type { SettingName };

const url = (protocols: string[]) =>
  z.string().refine((text) => protocols.some((protocol) => text.startsWith(`${protocol}://`)), {
    error: `must start with ${protocols.map((protocol) => `${protocol}://`).join(' or ')}`,
  });

/** Checks the value of each setting. `SETTINGS` says what each one means. */
const settings = z.object({
  dataDir: z.string().min(1, { error: 'must not be empty' }),
  databaseUrl: url(['postgres', 'postgresql']).optional(),
  store: z.enum(['citus', 'postgres'], { error: 'must be citus or postgres' }).optional(),
  brokerUrl: z
    .string()
    .refine((text) => text.split(',').every((one) => /^amqps?:\/\/./.test(one.trim())), {
      error: 'must be amqp:// or amqps:// URLs, separated by commas',
    })
    .optional(),
  brokerManagementUrl: url(['http', 'https']).optional(),
  cacheUrl: url(['redis', 'rediss']).optional(),
  gatewayUrl: url(['http', 'https']).optional(),
  kubeContext: z.string().min(1, { error: 'must not be empty' }).optional(),
  namespace: z
    .string()
    .regex(/^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/, {
      error: 'must be a namespace of Kubernetes: small letters, digits, dashes',
    })
    .optional(),
  production: z.union([z.stringbool(), z.boolean()], { error: 'must be true or false' }),
} satisfies Record<SettingName, z.ZodType>);

type Settings = z.infer<typeof settings>;
export type Source = 'flag' | 'environment' | 'context' | 'default';

export interface Config extends Settings {
  readonly context: string;
  /** No database URL is set: the database is the embedded one of `dataDir`. */
  readonly embedded: boolean;
  /** Where each value came from. */
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

/** root's home is closed to the user PostgreSQL has to run as there, so its default is a system directory. */
function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/lib/feedctl';
  return join(env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'feedctl');
}

/** Throws CONFIG_INVALID for a value that no command would take. */
export function checkSettings(values: Partial<Record<SettingName, unknown>>): void {
  const parsed = settings.partial().safeParse(values);
  if (parsed.success) return;
  const issue = parsed.error.issues[0]!;
  throw new FeedctlError('CONFIG_INVALID', `${String(issue.path[0])} ${issue.message}`);
}

/** Refuses passwords in flags, which every user of the machine can see. Throws SECRET_IN_FLAG. */
export function refuseSecrets(flags: ConfigFlags): void {
  const values = flags as Record<string, string | undefined>;
  for (const [name, { flag, secret }] of Object.entries<{ flag?: string; secret: boolean }>(SETTINGS)) {
    const urls = (secret && flag && values[name]?.split(',')) || [];
    if (urls.some((one) => /^\s*[a-z]+:\/\/[^/@]*:.+@|[?&]password=/i.test(one)))
      throw new FeedctlError('SECRET_IN_FLAG', `--${flag} contains a password`);
  }
}

/**
 * One validated configuration out of flags, environment, context file and defaults, in this order.
 * Throws CONFIG_INVALID, CONTEXT_NOT_FOUND or SECRET_IN_FLAG.
 */
export async function loadConfig(flags: ConfigFlags, env: NodeJS.ProcessEnv = process.env): Promise<Config> {
  refuseSecrets(flags);
  const { name, context } = await readContext(env, flags.context);
  const held: Record<string, unknown> = context;

  const values: Record<string, unknown> = {};
  const sources = {} as Record<SettingName, Source>;
  for (const key of Object.keys(settings.shape) as SettingName[]) {
    const candidates: [Source, unknown][] = [
      ['flag', (flags as Record<string, unknown>)[key]],
      ['environment', env[SETTINGS[key].variable] || undefined],
      ['context', held[key] ?? held[`${key}From`]],
      ['default', { dataDir: defaultDataDir(env), production: false }[key as string]],
    ];
    const [source, value] = candidates.find(([, candidate]) => candidate !== undefined) ?? [
      'default',
      undefined,
    ];
    // Only of a value that counts: a command is not run for one that a flag names.
    const secret = source === 'context' && held[key] === undefined;
    values[key] = secret ? await readSecret(key, value as Secret, env) : value;
    sources[key] = source;
  }
  const parsed = settings.safeParse(values);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const key = issue.path[0] as SettingName;
    throw new FeedctlError('CONFIG_INVALID', `${key} (from ${sources[key]}) ${issue.message}`);
  }
  return {
    ...parsed.data,
    dataDir: resolve(parsed.data.dataDir),
    context: name,
    embedded: parsed.data.databaseUrl === undefined,
    sources,
  };
}
