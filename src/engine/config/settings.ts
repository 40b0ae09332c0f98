import { parseBytes } from '../model/bytes.ts';
import type { Secret } from './secrets.ts';

/**
 * Settings in a context file. Their values are checked with those from other sources, in config.ts.
 */
export interface Context {
  readonly dataDir?: string | undefined;
  readonly databaseUrl?: string | undefined;
  readonly databaseUrlFrom?: Secret | undefined;
  readonly store?: string | undefined;
  readonly databaseDisk?: string | undefined;
  readonly brokerUrl?: string | undefined;
  readonly brokerUrlFrom?: Secret | undefined;
  readonly brokerManagementUrl?: string | undefined;
  readonly brokerManagementUrlFrom?: Secret | undefined;
  readonly cacheUrl?: string | undefined;
  readonly cacheUrlFrom?: Secret | undefined;
  readonly gatewayUrl?: string | undefined;
  readonly kubeContext?: string | undefined;
  readonly namespace?: string | undefined;
  readonly production?: boolean | string | undefined;
}

/**
 * Restriction of a value. It is a plain function, because every command reads the configuration:
 * loading a schema library would add 40 to 160 ms of CPU time to each.
 */
interface Rule {
  readonly accepts: (text: string) => boolean;
  /** Continues a sentence that begins with the setting's name. */
  readonly demand: string;
  /** Returns why text that is accepted cannot mean what was meant. */
  readonly fault?: (text: string) => string | undefined;
}

const ENCODED = { '/': '%2F', '?': '%3F', '#': '%23', '%': '%25' } as const;

/**
 * Returns the character of a user name or a password that ends it too early, because it is not
 * percent-encoded: `scheme://user:p/ss@host` names the host `user`. Never returns a part of the password.
 */
function credentialFault(url: string): string | undefined {
  const rest = url.trim().replace(/^[a-z+]+:\/\//i, '');
  const authority = /^[^/?#]*/.exec(rest)![0];
  const after = rest.slice(authority.length);
  const at = authority.lastIndexOf('@');
  let character: string | undefined;
  if (at >= 0) character = /%(?![0-9a-f]{2})/i.exec(authority.slice(0, at))?.[0];
  else if (after.includes('@') && authority.includes(':') && !endsBefore(authority, after))
    character = after[0];
  if (!character) return undefined;
  const encoded = ENCODED[character as keyof typeof ENCODED];
  return `has a user name or a password with the character ${character}: write it as ${encoded}`;
}

/** Returns whether `host:port` is complete, and the `@` belongs to a path or a parameter after it. */
function endsBefore(authority: string, after: string): boolean {
  if (!authority.split(',').every((host) => /^(\[[^\]]*\]|[^:]+)(:\d*)?$/.test(host))) return false;
  const [path = '', query = ''] = after.split('@', 1)[0]!.split(/\?(.*)/s);
  return query.includes('=') || (path.startsWith('/') && !/[/:]/.test(after.slice(after.lastIndexOf('@'))));
}

const url = (...protocols: string[]): Rule => ({
  accepts: (text) => protocols.some((protocol) => text.startsWith(`${protocol}://`)),
  demand: `must start with ${protocols.map((protocol) => `${protocol}://`).join(' or ')}`,
  fault: credentialFault,
});

const httpUrl = url('http', 'https');

/** Returns why no request can be sent to a path below this URL, or undefined if one can. */
export function httpUrlProblem(text: string): string | undefined {
  if (!httpUrl.accepts(text)) return httpUrl.demand;
  if (!URL.canParse(text)) return 'is no URL';
  const { username, password, search, hash } = new URL(text);
  if (username || password) return 'must not have a user name or a password';
  return search || hash ? 'must end with its path' : undefined;
}

const notEmpty: Rule = { accepts: (text) => text !== '', demand: 'must not be empty' };

const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  '1': true,
  yes: true,
  on: true,
  y: true,
  enabled: true,
  false: false,
  '0': false,
  no: false,
  off: false,
  n: false,
  disabled: false,
};

/** Returns undefined for text that is neither true nor false. */
export const parseBoolean = (text: string): boolean | undefined =>
  Object.hasOwn(BOOLEANS, text.toLowerCase()) ? BOOLEANS[text.toLowerCase()] : undefined;

interface Setting<Name extends string> {
  /**
   * Flag without its dashes. A setting without one is read from the environment and the context
   * only.
   */
  readonly flag?: string;
  /** Environment variable. */
  readonly variable: string;
  /**
   * The value may contain a password. A flag must not, and a context may name a source instead
   * (`<name>From`).
   */
  readonly secret: `${Name}From` extends keyof Context ? true : false;
  readonly rule: Rule;
  /** Meaning and default, for `docs/reference/configuration.md`. */
  readonly about: string;
  readonly fallback: string;
}

type InContext = Exclude<keyof Context, `${string}From`>;

/** Lists every setting of a cluster by its name, which is also its field in the context file. */
export const SETTINGS = {
  dataDir: {
    flag: 'data-dir',
    variable: 'FEEDCTL_DATA_DIR',
    secret: false,
    rule: notEmpty,
    about: 'Directory of the embedded cluster: its database, its lock and the URLs that other commands use.',
    fallback:
      '`feedctl` below `$XDG_DATA_HOME`, or below `~/.local/share` if that is not set; ' +
      '`/var/lib/feedctl` for root',
  },
  databaseUrl: {
    flag: 'database-url',
    variable: 'FEEDCTL_DATABASE_URL',
    secret: true,
    rule: url('postgres', 'postgresql'),
    about:
      'Database of the cluster: a `postgres://` or `postgresql://` URL. It may name several hosts with ' +
      'commas, the primary and its standbys.',
    fallback: 'the database of the embedded cluster that runs in the data directory',
  },
  store: {
    variable: 'FEEDCTL_STORE',
    secret: false,
    rule: { accepts: (text) => text === 'citus' || text === 'postgres', demand: 'must be citus or postgres' },
    about: 'Required kind of the database: `citus` or `postgres`.',
    fallback: 'detected from the database',
  },
  databaseDisk: {
    variable: 'FEEDCTL_DATABASE_DISK',
    secret: false,
    rule: { accepts: (text) => parseBytes(text) !== undefined, demand: 'must be a size such as 500GiB' },
    about:
      'Size of the disk of each database server, such as `500GiB` or `2TB`. `status`, `doctor` and `top` ' +
      'then show when it is full. Its database and `max_wal_size` count against it.',
    fallback: 'free space of the data directory for the embedded cluster; otherwise not known',
  },
  brokerUrl: {
    flag: 'broker-url',
    variable: 'FEEDCTL_BROKER_URL',
    secret: true,
    rule: {
      accepts: (text) => text.split(',').every((one) => /^amqps?:\/\/./.test(one.trim())),
      demand: 'must be amqp:// or amqps:// URLs, separated by commas (a comma in a password: %2C)',
      fault: (text) => text.split(',').map(credentialFault).find(Boolean),
    },
    about: 'Brokers of one RabbitMQ cluster: one or more `amqp://` or `amqps://` URLs, separated by commas.',
    fallback: 'none; the database then holds the queues',
  },
  brokerManagementUrl: {
    variable: 'FEEDCTL_BROKER_MANAGEMENT_URL',
    secret: true,
    rule: httpUrl,
    about:
      'Management API of RabbitMQ: an `http://` or `https://` URL. `feedctl doctor` reads policies there.',
    fallback: 'port 15672 of the broker, or port 15671 if its URL is `amqps://`',
  },
  cacheUrl: {
    flag: 'cache-url',
    variable: 'FEEDCTL_CACHE_URL',
    secret: true,
    rule: url(
      'redis',
      'rediss',
      ...['sentinel', 'cluster'].flatMap((kind) => [`redis+${kind}`, `rediss+${kind}`]),
    ),
    about:
      'Redis that all gateways share as a cache: a `redis://` or `rediss://` URL. `redis+sentinel://` ' +
      'names sentinels, and `redis+cluster://` nodes of a Redis Cluster.',
    fallback: 'none; each gateway then caches in its own memory',
  },
  gatewayUrl: {
    flag: 'gateway-url',
    variable: 'FEEDCTL_GATEWAY_URL',
    secret: false,
    rule: httpUrl,
    about: 'Gateway that clients of the cluster use: an `http://` or `https://` URL.',
    fallback: 'the gateway with the newest heartbeat that answers',
  },
  kubeContext: {
    flag: 'kube-context',
    variable: 'FEEDCTL_KUBE_CONTEXT',
    secret: false,
    rule: notEmpty,
    about: 'Context of the kubeconfig. It names the Kubernetes cluster that runs the feed cluster.',
    fallback: 'the current context of the kubeconfig',
  },
  namespace: {
    flag: 'namespace',
    variable: 'FEEDCTL_NAMESPACE',
    secret: false,
    rule: {
      accepts: (text) => /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/.test(text),
      demand: 'must be a namespace of Kubernetes: small letters, digits, dashes',
    },
    about: 'Namespace of the feed cluster in Kubernetes.',
    fallback:
      'the namespace in the manifests for `cluster plan` and `cluster apply`; otherwise that of the ' +
      'kubeconfig’s context, or else `feedctl`',
  },
  production: {
    variable: 'FEEDCTL_PRODUCTION',
    secret: false,
    rule: { accepts: (text) => parseBoolean(text) !== undefined, demand: 'must be true or false' },
    about: 'Every change asks for the name of the context if this is `true`. `--yes` is then not enough.',
    fallback: '`false`',
  },
} as const satisfies { readonly [Name in InContext]-?: Setting<Name> };

export type SettingName = keyof typeof SETTINGS;

/** Returns the variable that names a file with the value of a secret setting. */
export const fileVariable = (variable: string): string => `${variable}_FILE`;

const NAMES = Object.keys(SETTINGS) as SettingName[];

/** Returns the first setting whose value breaks its rule, and the reason. */
export function settingProblem(
  values: Readonly<Partial<Record<SettingName, unknown>>>,
): { name: SettingName; why: string } | undefined {
  for (const name of NAMES) {
    const value = values[name];
    if (value === undefined || (name === 'production' && typeof value === 'boolean')) continue;
    const { accepts, demand, fault }: Rule = SETTINGS[name].rule;
    if (typeof value !== 'string' || !accepts(value)) return { name, why: demand };
    const why = fault?.(value);
    if (why) return { name, why };
  }
  return undefined;
}

const isSettingName = (key: string): key is SettingName => Object.hasOwn(SETTINGS, key);

/** Returns whether a context may hold this key: the source of a secret setting. */
export function isSourceKey(key: string): boolean {
  const name = key.endsWith('From') ? key.slice(0, -'From'.length) : '';
  return isSettingName(name) && SETTINGS[name].secret;
}

/** Returns why a context must not hold this value of a setting, or undefined if it may. */
export function contextProblem(key: string, value: unknown): string | undefined {
  if (!isSettingName(key)) return `unknown setting; known: ${NAMES.join(', ')}`;
  if (key === 'production' && typeof value === 'boolean') return undefined;
  if (typeof value === 'string' && value !== '') return undefined;
  return key === 'production' ? 'must be true or false' : 'must be text that is not empty';
}
