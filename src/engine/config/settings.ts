import type { Context } from './contexts.ts';

interface Setting<Name extends string> {
  /** Flag without its dashes. A setting without one is read from the environment and the context only. */
  readonly flag?: string;
  /** Environment variable. */
  readonly variable: string;
  /** The value may contain a password: a flag must not, and a context may name a source (`<name>From`). */
  readonly secret: `${Name}From` extends keyof Context ? true : false;
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
    about: 'Directory of the embedded cluster: its database, its lock and the URLs that other commands use.',
    fallback:
      '`feedctl` below `$XDG_DATA_HOME`, or below `~/.local/share` if that is not set; ' +
      '`/var/lib/feedctl` for root',
  },
  databaseUrl: {
    flag: 'database-url',
    variable: 'FEEDCTL_DATABASE_URL',
    secret: true,
    about: 'Database of the cluster: a `postgres://` or `postgresql://` URL.',
    fallback: 'the database of the embedded cluster that runs in the data directory',
  },
  store: {
    variable: 'FEEDCTL_STORE',
    secret: false,
    about: 'Required kind of the database: `citus` or `postgres`.',
    fallback: 'detected from the database',
  },
  brokerUrl: {
    flag: 'broker-url',
    variable: 'FEEDCTL_BROKER_URL',
    secret: true,
    about: 'Brokers of one RabbitMQ cluster: one or more `amqp://` or `amqps://` URLs, separated by commas.',
    fallback: 'none; the database then holds the queues',
  },
  brokerManagementUrl: {
    variable: 'FEEDCTL_BROKER_MANAGEMENT_URL',
    secret: true,
    about:
      'Management API of RabbitMQ: an `http://` or `https://` URL. `feedctl doctor` reads policies there.',
    fallback: 'port 15672 of the broker, or port 15671 if its URL is `amqps://`',
  },
  cacheUrl: {
    flag: 'cache-url',
    variable: 'FEEDCTL_CACHE_URL',
    secret: true,
    about: 'Redis that all gateways share as a cache: a `redis://` or `rediss://` URL.',
    fallback: 'none; each gateway then caches in its own memory',
  },
  gatewayUrl: {
    flag: 'gateway-url',
    variable: 'FEEDCTL_GATEWAY_URL',
    secret: false,
    about: 'Gateway that clients of the cluster use: an `http://` or `https://` URL.',
    fallback: 'the gateway with the newest heartbeat that answers',
  },
  kubeContext: {
    flag: 'kube-context',
    variable: 'FEEDCTL_KUBE_CONTEXT',
    secret: false,
    about: 'Context of the kubeconfig. It names the Kubernetes cluster that runs the feed cluster.',
    fallback: 'the current context of the kubeconfig',
  },
  namespace: {
    flag: 'namespace',
    variable: 'FEEDCTL_NAMESPACE',
    secret: false,
    about: 'Namespace of the feed cluster in Kubernetes.',
    fallback:
      'the namespace in the manifests for `cluster plan` and `cluster apply`; otherwise that of the ' +
      'kubeconfig’s context, or else `feedctl`',
  },
  production: {
    variable: 'FEEDCTL_PRODUCTION',
    secret: false,
    about: 'Every change asks for the name of the context if this is `true`. `--yes` is then not enough.',
    fallback: '`false`',
  },
} as const satisfies { readonly [Name in InContext]-?: Setting<Name> };

export type SettingName = keyof typeof SETTINGS;
