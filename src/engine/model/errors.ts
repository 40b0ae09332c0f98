/**
 * Says whether the same work may be retried after a failure:
 *
 *     transient  the work did not cause it, and a retry succeeds once the cause is fixed
 *     permanent  no retry will ever succeed
 *     unknown    retried a limited number of times
 */
export type Failure = 'transient' | 'permanent' | 'unknown';

/**
 * Lists every failure that a user can meet: its code, the exit status of the command, and the fix that
 * is printed under the error. `errorTexts.ts` explains each code. `npm run docs` writes `docs/errors.md`
 * from both.
 *
 * Exit status: 1 failed, 2 wrong usage, 3 partly done. `failure` is the retry class. Without it,
 * `resilience/classify.ts` classifies the error's cause. A refused login is 'transient': an operator fixes
 * it, and no message caused it.
 */
export const ERRORS = {
  BAD_LINE: {
    exit: 1,
    fix: 'Correct or remove that line, then run the command again. Nothing was changed.',
  },
  BROKER_BLOCKED: {
    exit: 1,
    failure: 'transient',
    fix: 'Free memory or disk space of the broker: it has raised an alarm (`rabbitmq-diagnostics alarms`).',
  },
  BROKER_OTHER_CLUSTER: {
    exit: 1,
    failure: 'transient',
    fix: 'Give this cluster another virtual host; or, if that cluster is gone, run `feedctl cluster adopt`.',
  },
  BROKER_OTHER_LINEAGE: {
    exit: 1,
    failure: 'transient',
    fix: 'If this database is the cluster now: `feedctl cluster adopt`. Give a copy another virtual host.',
  },
  BROKER_PLUGIN_MISSING: {
    exit: 1,
    failure: 'transient',
    fix: 'Enable it on every broker: `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange`.',
  },
  BROKER_REFUSED: {
    exit: 1,
    failure: 'transient',
    fix: 'Correct the user or the password in the broker’s URL.',
  },
  BROKER_TLS_FAILED: {
    exit: 1,
    failure: 'transient',
    fix: 'Check the port, and the files that cacertfile, certfile and keyfile in the URL name.',
  },
  BROKER_TOO_OLD: { exit: 1, failure: 'transient', fix: 'Upgrade RabbitMQ to 3.10 or newer.' },
  BROKER_TOPOLOGY_MISMATCH: {
    exit: 1,
    failure: 'transient',
    fix: 'Give feedctl its own virtual host, or delete the named object when empty; then `feedctl migrate`.',
  },
  BROKER_UNREACHABLE: {
    exit: 1,
    failure: 'transient',
    fix: 'Check that RabbitMQ runs and that the URL is right (`feedctl doctor`).',
  },
  BROKER_UNROUTABLE: {
    exit: 1,
    failure: 'transient',
    fix: 'Run `feedctl migrate`: it declares the missing queues.',
  },
  BROKER_VHOST_UNKNOWN: {
    exit: 1,
    failure: 'transient',
    fix: 'Create the virtual host, or correct the broker’s URL.',
  },
  BUS_MESSAGE_INVALID: {
    exit: 1,
    failure: 'permanent',
    fix: 'Run one version of feedctl on the cluster, then `feedctl feed verify --all --repair`.',
  },
  CACHE_NOT_SHARED: {
    exit: 1,
    fix: 'No action is needed. To share one cache between all gateways, name a Redis with --cache-url.',
  },
  CACHE_REFUSED: {
    exit: 1,
    fix: 'Correct the user and the password in FEEDCTL_CACHE_URL, and that user’s permissions in Redis.',
  },
  CACHE_TLS_FAILED: {
    exit: 1,
    fix: 'Check the port, and the files that cacertfile, certfile and keyfile in the URL name.',
  },
  CACHE_UNREACHABLE: {
    exit: 1,
    failure: 'transient',
    fix: 'Check that Redis runs and that the URL is right; the cluster works without it, only slower.',
  },
  CACHE_UNSUITABLE: {
    exit: 1,
    fix: 'Name a Redis server, 6.2 or newer, that is no replica; or sentinels, or nodes of a Redis Cluster.',
  },
  CIRCUIT_OPEN: {
    exit: 1,
    failure: 'transient',
    fix: 'Look at the server that the message names. Calls resume by themselves when it answers again.',
  },
  CITUS_MISSING: {
    exit: 1,
    fix: 'Load Citus on every node and create its extension there, or remove the setting `store`.',
  },
  CLOCK_BEHIND: {
    exit: 1,
    failure: 'transient',
    fix: 'Set the clock right and keep it so (chrony or another NTP client); ids resume by themselves.',
  },
  CLOCK_OFF: {
    exit: 1,
    failure: 'transient',
    fix: 'Set the wrong clock right and keep it so (chrony or another NTP client); roles then resume.',
  },
  CLUSTER_ALREADY_RUNNING: {
    exit: 1,
    fix: 'Use that cluster, stop it with `feedctl down`, or choose another --data-dir.',
  },
  CLUSTER_DIFFERS: {
    exit: 1,
    failure: 'transient',
    fix: 'Set FEEDCTL_BROKER_URL and FEEDCTL_CACHE_URL as for the roles of the cluster.',
  },
  CLUSTER_NOT_EMPTY: {
    exit: 1,
    fix: 'Use an empty cluster and empty servers, or omit --database-url, --broker-url and --cache-url.',
  },
  CLUSTER_NOT_RUNNING: {
    exit: 1,
    fix: 'Start one with `feedctl up`, or name another with --data-dir or --database-url.',
  },
  COMMAND_NOT_FOUND: { exit: 2, fix: 'See `feedctl --help`.' },
  CONFIG_INVALID: { exit: 2, fix: 'Correct the value and run the command again.' },
  CONFIRMATION_REQUIRED: { exit: 2, fix: 'Pass --yes to confirm without being asked.' },
  CONTEXT_EXISTS: { exit: 1, fix: 'Choose another name, or pass --replace.' },
  CONTEXT_NOT_FOUND: { exit: 2, fix: 'See `feedctl context list`; `feedctl context add` creates one.' },
  DATABASE_COPIED: {
    exit: 1,
    failure: 'transient',
    fix: 'Run `feedctl cluster adopt` if it replaces the original, else `feedctl cluster identify`.',
  },
  DATABASE_ERROR: { exit: 1, fix: 'Look at the database server’s log; the command may be run again.' },
  DATABASE_NOT_FOUND: {
    exit: 1,
    fix: 'Create the database (`createdb NAME`), or correct its name in the URL.',
  },
  DATABASE_OTHER_CLUSTER: {
    exit: 1,
    failure: 'transient',
    fix: 'Make the URL lead to the database of this cluster again, or restart the process for the other one.',
  },
  DATABASE_POOLED: {
    exit: 1,
    failure: 'transient',
    fix: 'Connect to PostgreSQL directly, or set the pooler to session mode (PgBouncer: pool_mode=session).',
  },
  DATABASE_READ_ONLY: {
    exit: 1,
    failure: 'transient',
    fix:
      'Name the primary in the URL, or all hosts without target_session_attrs; ' +
      'or promote the standby (`pg_ctl promote`).',
  },
  DATABASE_REFUSED: {
    exit: 1,
    failure: 'transient',
    fix: 'Correct the user and password in FEEDCTL_DATABASE_URL, or admit that user (pg_hba.conf, grants).',
  },
  DATABASE_TLS_FAILED: {
    exit: 1,
    failure: 'transient',
    fix: 'Check sslmode in the URL, and the files that sslrootcert, sslcert and sslkey name.',
  },
  DATABASE_UNREACHABLE: {
    exit: 1,
    failure: 'transient',
    fix: 'Check that the server runs and that the URL is right (`feedctl status`).',
  },
  DATA_DIR_UNUSABLE: { exit: 1, fix: 'Choose a writable directory with --data-dir.' },
  DEAD_LETTER_NOT_FOUND: { exit: 1, fix: 'See `feedctl dlq list`; it may have been replayed or discarded.' },
  DEMO_FAILED: { exit: 1, fix: 'This is a fault of feedctl: please report the output of the demo.' },
  DISK_FULL: {
    exit: 1,
    failure: 'transient',
    fix: 'Make room on that disk; the work then continues, or the command may be run again.',
  },
  DISTRIBUTION_WRONG: {
    exit: 1,
    fix: 'Undo it with `undistribute_table`, then run `feedctl migrate`; `feedctl doctor` names each table.',
  },
  EMBEDDED_POSTGRES_FAILED: { exit: 1, fix: 'Read postgres.log in the data directory.' },
  FILE_NOT_FOUND: { exit: 1, fix: 'Check the path.' },
  FILE_TRUNCATED: { exit: 1, fix: 'Fetch the file again; nothing was changed.' },
  FILE_UNREADABLE: { exit: 1, fix: 'Check the file and its permissions.' },
  FILE_UNWRITABLE: { exit: 1, fix: 'Name a file in a directory that you may write to.' },
  GATEWAY_NOT_FOUND: { exit: 1, fix: 'See `feedctl gateway list` for the ids.' },
  GATEWAY_OTHER: {
    exit: 1,
    fix: 'Start each gateway with --advertise-url: a URL that leads to it, and to no other, from everywhere.',
  },
  GATEWAY_UNREACHABLE: {
    exit: 1,
    fix: 'Start one with `feedctl up` or `feedctl gateway start`, or correct --gateway-url.',
  },
  IDEMPOTENCY_KEY_REUSED: {
    exit: 1,
    fix: 'Use a new key for each post, and an old key only to repeat a request.',
  },
  IMPORT_OVERLAP: { exit: 1, fix: 'Replay the same file again, or use another cluster for this one.' },
  INTERNAL: { exit: 1, fix: 'This is a fault of feedctl: run again with DEBUG=* and report the output.' },
  INTERRUPTED: { exit: 3, fix: 'Run the same command again: it starts from the beginning.' },
  INVALID_CURSOR: { exit: 1, fix: 'Connect without `after`, and read the feed.' },
  INVALID_ID: { exit: 2, fix: 'Pass a whole number from 1 to 9007199254740991.' },
  INVALID_TOKEN: { exit: 1, fix: 'Get a new one with `feedctl user token <id>`.' },
  KUBE_AUTOSCALED: {
    exit: 1,
    fix: 'Change the bounds with --min and --max: the autoscaler would undo any other number.',
  },
  KUBE_CONFIG_INVALID: {
    exit: 2,
    fix: 'Name a kubeconfig with KUBECONFIG and one of its contexts with --kube-context.',
  },
  KUBE_CONFLICT: {
    exit: 1,
    fix: 'Remove the field from the manifests, or take it over with --force-conflicts.',
  },
  KUBE_FORBIDDEN: {
    exit: 1,
    fix: 'Ask an administrator to grant the named permission, or use another --kube-context.',
  },
  KUBE_KIND_UNKNOWN: {
    exit: 1,
    fix: 'Install the operator of that kind (KEDA, Prometheus Operator), or omit its component.',
  },
  KUBE_NAMESPACE_MISSING: {
    exit: 1,
    fix: 'Correct --namespace, or create it with `kubectl create namespace`.',
  },
  KUBE_NOT_FOUND: {
    exit: 1,
    fix: 'See `feedctl cluster status`; `feedctl cluster apply` creates missing objects.',
  },
  KUBE_REFUSED: { exit: 1, fix: 'Correct the manifest and run the command again; nothing was applied.' },
  KUBE_ROLLOUT_FAILED: {
    exit: 1,
    fix: 'See `feedctl cluster status` for the pods and their reasons, then run the same command again.',
  },
  KUBE_UNAUTHORIZED: {
    exit: 1,
    fix: 'Log in to the cluster again, with the tool that made the kubeconfig.',
  },
  KUBE_UNREACHABLE: {
    exit: 1,
    failure: 'transient',
    fix: 'Check that the cluster runs, the address in the kubeconfig, and the network between.',
  },
  MANIFEST_INVALID: { exit: 2, fix: 'Correct that line; nothing was changed.' },
  NODE_IN_USE: {
    exit: 1,
    fix: 'Empty it first with `feedctl node drain <host:port>`; `feedctl node list` shows the shards.',
  },
  NODE_NOT_FOUND: { exit: 1, fix: 'See `feedctl node list` for the nodes, each as host:port.' },
  NODE_NUMBERS_EXHAUSTED: {
    exit: 1,
    failure: 'transient',
    fix: 'Stop a process that is not needed, or try again in half a minute.',
  },
  NODE_UNREACHABLE: {
    exit: 1,
    fix: 'Start it, admit the coordinator (pg_hba.conf), and run `create extension citus` in its database.',
  },
  NOT_DISTRIBUTED: {
    exit: 1,
    fix: 'One server needs no action. For several, see docs/guides/citus.md, then run `feedctl migrate`.',
  },
  NOT_LIVE: {
    exit: 1,
    failure: 'transient',
    fix: 'Wait: the gateway recovers by itself when its broker and its database do.',
  },
  OPERATION_CANCELLED: { exit: 3, fix: 'Finished work stays. The same command starts from the beginning.' },
  OPERATION_INPUT_CHANGED: {
    exit: 1,
    fix: 'Restore the file and resume, or run `feedctl operation cancel` and the command again.',
  },
  OPERATION_NOT_CANCELLABLE: { exit: 1, fix: 'See `feedctl operation show` for its kind and its state.' },
  OPERATION_NOT_FOUND: { exit: 1, fix: 'See `feedctl operation list` for the ids.' },
  OPERATION_NOT_RESUMABLE: { exit: 1, fix: 'Run the command again: it starts from the beginning.' },
  OPERATION_RUNNING: { exit: 1, fix: 'Wait for it to end, or stop the other run first.' },
  OUTPUT_FAILED: { exit: 1, fix: 'Make room for the output, or write it to another place.' },
  OVERLOADED: {
    exit: 1,
    failure: 'transient',
    fix: 'Try again in a moment; start more gateways or workers if it happens often.',
  },
  PORT_TAKEN: { exit: 1, fix: 'Pass another --port, or --port 0 for a free one.' },
  POST_EMPTY: { exit: 2, fix: 'Give the post a text.' },
  POST_NOT_FOUND: { exit: 1, fix: 'Check the id; a deleted post cannot be restored.' },
  POST_TOO_LONG: { exit: 2, fix: 'Shorten the text to 5,000 characters.' },
  QUEUE_CONSUMED: {
    exit: 1,
    fix: 'Pause its lane first: `feedctl fanout pause --lane live|bulk`, for cleanups both (`--lane all`).',
  },
  QUEUE_FULL: {
    exit: 1,
    failure: 'transient',
    fix: 'Start more workers (`feedctl worker start`), or wait until the backlog is smaller.',
  },
  RATE_LIMITED: {
    exit: 1,
    failure: 'transient',
    fix: 'Wait for as long as Retry-After says; the limits are flags of `gateway start`.',
  },
  REBALANCE_FAILED: {
    exit: 1,
    fix: 'Fix the cause that the message gives and run the same command again: finished moves stay.',
  },
  REBALANCE_STOPPED: { exit: 3, fix: 'Run the same command again: it plans the remaining moves.' },
  RECORDING_DAMAGED: { exit: 1, fix: 'Pass a file that `feedctl top --record FILE` has written.' },
  SCHEMA_LOCKED: {
    exit: 1,
    failure: 'transient',
    fix: 'Wait for that session, or end it (`select pg_terminate_backend(PID)`); then run the command again.',
  },
  SCHEMA_MISSING: { exit: 1, fix: 'Run `feedctl migrate` first.' },
  SCHEMA_NEWER: {
    exit: 1,
    fix: 'Install the version of feedctl that migrated this database, or a newer one.',
  },
  SECRET_IN_FLAG: {
    exit: 2,
    fix: 'Pass the URL in the environment (FEEDCTL_DATABASE_URL, FEEDCTL_BROKER_URL, FEEDCTL_CACHE_URL).',
  },
  SELF_FOLLOW: { exit: 2, fix: 'Name two different users.' },
  SHARDS_BUSY: {
    exit: 1,
    fix: 'Wait for it (`feedctl shards status`), or end it with `feedctl shards rebalance --stop`.',
  },
  SHARDS_UNMOVABLE: {
    exit: 1,
    fix: 'Fix each thing that the message names; `feedctl doctor` checks them too.',
  },
  SHARD_NOT_FOUND: { exit: 1, fix: 'See `feedctl shards list` for the ids.' },
  STOP_TIMEOUT: {
    exit: 1,
    fix: 'Give it more time with --timeout, or find the server that does not answer (`feedctl doctor`).',
  },
  TEXT_INVALID: { exit: 2, fix: 'Remove the characters that are not text.' },
  TIMED_OUT: {
    exit: 1,
    failure: 'transient',
    fix: 'Find out why the server that it names is busy, and try again.',
  },
  USAGE: { exit: 2, fix: 'See the command’s --help.' },
  USER_EXISTS: { exit: 1, fix: 'Choose another id, or omit --id.' },
  USER_NOT_FOUND: { exit: 1, fix: 'Check the id, or create the user with `feedctl user create`.' },
  VERSION_CONFLICT: { exit: 1, fix: 'Read the post again and repeat the change on its newest version.' },
  WORKER_NOT_FOUND: { exit: 1, fix: 'See `feedctl worker list` for the ids.' },
  WRONG_PASSWORD: {
    exit: 1,
    fix: 'Correct the password; a user created by a command or an import has none.',
  },
} as const satisfies Record<string, { exit: 1 | 2 | 3; fix: string; failure?: Failure }>;

export type ErrorCode = keyof typeof ERRORS;

/** A failure with a stable code. `message` says what happened and why; `suggestions` say how to fix it. */
export class FeedctlError extends Error {
  readonly code: ErrorCode;
  readonly suggestions: readonly string[];
  /** The exit status of the code, or 3 of work that was partly done before it. */
  readonly exitStatus: 1 | 2 | 3;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; suggestions?: string[]; exitStatus?: 3 } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'FeedctlError';
    this.code = code;
    this.suggestions = options.suggestions ?? [ERRORS[code].fix];
    this.exitStatus = options.exitStatus ?? ERRORS[code].exit;
  }
}

export function isFeedctlError(error: unknown, code?: ErrorCode): error is FeedctlError {
  return error instanceof FeedctlError && (code === undefined || error.code === code);
}

/**
 * Returns the text of anything thrown. An AggregateError, which Node throws for a refused dual-stack
 * connect, has an empty message: the messages of its errors are joined instead.
 */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && !error.message) return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
