/**
 * What a failure means for trying again:
 *
 *     transient  passes without a change: the same work may be retried, and the work was not at fault
 *     permanent  never succeeds: no retry
 *     unknown    retried a limited number of times
 */
export type Failure = 'transient' | 'permanent' | 'unknown';

/**
 * Every failure a user can meet has one row here: its code, the exit status it ends a command with, and how
 * to mend it. `docs/errors.md` has a heading for each code; a test compares the two.
 *
 * Exit status: 1 failed, 2 wrong usage, 3 partly done. `failure` is what the code means for trying again; without
 * it, that is what the error's cause means (`resilience/failure.ts`). A server that lets nobody in is passing: an
 * operator mends it, and no message was at fault.
 */
export const ERRORS = {
  BAD_LINE: { exit: 1, fix: 'Correct or remove that line; nothing was changed.' },
  BROKER_BLOCKED: {
    exit: 1,
    failure: 'transient',
    fix: 'Make room on the broker’s disk or in its memory: it has an alarm (`rabbitmq-diagnostics alarms`).',
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
    fix: 'Give feedctl a virtual host of its own, or delete what is in the way when it is empty; `feedctl migrate` makes it anew.',
  },
  BROKER_UNREACHABLE: {
    exit: 1,
    failure: 'transient',
    fix: 'Check that RabbitMQ runs and that the URL is right (`feedctl doctor`).',
  },
  BROKER_UNROUTABLE: {
    exit: 1,
    failure: 'transient',
    fix: 'Run `feedctl migrate`: it makes the queues that are missing.',
  },
  BROKER_VHOST_UNKNOWN: {
    exit: 1,
    failure: 'transient',
    fix: 'Create the virtual host, or correct the broker’s URL.',
  },
  BUS_MESSAGE_INVALID: {
    exit: 1,
    failure: 'permanent',
    fix: 'The message was damaged, or written by a newer or a foreign program.',
  },
  CACHE_NOT_SHARED: {
    exit: 1,
    fix: 'Nothing is to be done: each gateway keeps the feeds that its readers ask for. With Redis (--cache-url) all share one cache.',
  },
  CACHE_REFUSED: {
    exit: 1,
    fix: 'Correct the user and password in FEEDCTL_CACHE_URL, and what Redis allows them.',
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
  CACHE_UNSUITABLE: { exit: 1, fix: 'Name one Redis server, 6.2 or newer, that is no replica.' },
  CIRCUIT_OPEN: {
    exit: 1,
    failure: 'transient',
    fix: 'Look at the server it names; calls go on by themselves when it answers again.',
  },
  CITUS_MISSING: {
    exit: 1,
    fix: "On every node: shared_preload_libraries = 'citus', then `create extension citus` in this database; or leave the setting `store` away.",
  },
  CLUSTER_ALREADY_RUNNING: {
    exit: 1,
    fix: 'Use it as it is, stop it with `feedctl down`, or pick another --data-dir.',
  },
  CLUSTER_NOT_EMPTY: { exit: 1, fix: 'Use a cluster of its own, or leave --database-url away.' },
  CLUSTER_NOT_RUNNING: {
    exit: 1,
    fix: 'Start one with `feedctl up`, or name another with --data-dir or --database-url.',
  },
  COMMAND_NOT_FOUND: { exit: 2, fix: 'See `feedctl --help`.' },
  CONTEXT_EXISTS: { exit: 1, fix: 'Pick another name, or pass --replace.' },
  CONTEXT_NOT_FOUND: {
    exit: 2,
    fix: 'See `feedctl context list`; `feedctl context add` makes one.',
  },
  CONFIG_INVALID: { exit: 2, fix: 'Correct the value and run the command again.' },
  CONFIRMATION_REQUIRED: { exit: 2, fix: 'Pass --yes to confirm without being asked.' },
  DATABASE_ERROR: { exit: 1, fix: 'Look at the database server’s log; the command may be run again.' },
  DATABASE_NOT_FOUND: { exit: 1, fix: 'Create the database first, or correct its name in the URL.' },
  DATABASE_REFUSED: {
    exit: 1,
    failure: 'transient',
    fix: 'Correct the user and the password in FEEDCTL_DATABASE_URL, and what pg_hba.conf and grants allow that user.',
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
  DATA_DIR_UNUSABLE: { exit: 1, fix: 'Pick a directory that can be written with --data-dir.' },
  DEAD_LETTER_NOT_FOUND: { exit: 1, fix: 'See `feedctl dlq list`; it may have been replayed or discarded.' },
  DEMO_FAILED: { exit: 1, fix: 'This is a fault of feedctl: please report what the demo printed.' },
  DISTRIBUTION_WRONG: {
    exit: 1,
    fix: 'Undo it with `undistribute_table`, then run `feedctl migrate`; `feedctl doctor` names each table.',
  },
  EMBEDDED_POSTGRES_FAILED: { exit: 1, fix: 'Read postgres.log in the data directory.' },
  FILE_NOT_FOUND: { exit: 1, fix: 'Check the path.' },
  FILE_TRUNCATED: { exit: 1, fix: 'Fetch the file again; nothing was changed.' },
  FILE_UNREADABLE: { exit: 1, fix: 'Check the file and its permissions.' },
  GATEWAY_NOT_FOUND: { exit: 1, fix: 'See `feedctl gateway list` for the ids.' },
  GATEWAY_UNREACHABLE: {
    exit: 1,
    fix: 'Start one with `feedctl up` or `feedctl gateway start`, or correct --gateway-url.',
  },
  IDEMPOTENCY_KEY_REUSED: {
    exit: 1,
    fix: 'Use a new key for each post, and the same one only to repeat a request.',
  },
  IMPORT_OVERLAP: { exit: 1, fix: 'Replay the same file again, or use another cluster for this one.' },
  INTERNAL: {
    exit: 1,
    fix: 'This is a fault of feedctl: run again with DEBUG=* and report what it prints.',
  },
  INTERRUPTED: { exit: 3, fix: 'Run the same command again: it goes on where it stopped.' },
  INVALID_CURSOR: { exit: 1, fix: 'Connect without `after`, and read the feed.' },
  INVALID_ID: { exit: 2, fix: 'An id is a whole number from 1 to 9007199254740991.' },
  INVALID_TOKEN: { exit: 1, fix: 'Get a fresh one with `feedctl user token <id>`.' },
  KUBE_AUTOSCALED: {
    exit: 1,
    fix: 'Change the bounds with --min and --max; it would undo any other number.',
  },
  KUBE_CONFIG_INVALID: {
    exit: 2,
    fix: 'Name a kubeconfig with KUBECONFIG and a context of it with --kube-context; `kubectl config get-contexts` lists them.',
  },
  KUBE_CONFLICT: {
    exit: 1,
    fix: 'Let the other manager go on owning the field and remove it from the manifests, or take it over with --force-conflicts.',
  },
  KUBE_FORBIDDEN: {
    exit: 1,
    fix: 'Let an administrator grant what the message names, or use another --kube-context.',
  },
  KUBE_KIND_UNKNOWN: {
    exit: 1,
    fix: 'Install what serves that kind (KEDA, the Prometheus Operator), or leave the component away that uses it.',
  },
  KUBE_NAMESPACE_MISSING: {
    exit: 1,
    fix: 'Correct --namespace, or make it: `feedctl cluster apply` does where the manifests hold it, as the overlays dev and prod do.',
  },
  KUBE_NOT_FOUND: {
    exit: 1,
    fix: 'See `feedctl cluster status`; `feedctl cluster apply` makes what is missing.',
  },
  KUBE_REFUSED: { exit: 1, fix: 'Correct the manifest; nothing of it was applied.' },
  KUBE_ROLLOUT_FAILED: {
    exit: 1,
    fix: 'See `feedctl cluster status` for the pods and their reasons, then run the same command again.',
  },
  KUBE_UNAUTHORIZED: {
    exit: 1,
    fix: 'Log in to the cluster again: the token or the certificate in the kubeconfig has expired or is of another cluster.',
  },
  KUBE_UNREACHABLE: {
    exit: 1,
    failure: 'transient',
    fix: 'Check that the cluster runs, the address in the kubeconfig, and the network between.',
  },
  MANIFEST_INVALID: { exit: 2, fix: 'Correct that line; nothing was changed.' },
  NODE_IN_USE: {
    exit: 1,
    fix: 'Empty it first with `feedctl node drain <host:port>`; `feedctl node list` shows what is where.',
  },
  NODE_NOT_FOUND: { exit: 1, fix: 'See `feedctl node list` for the nodes, each as host:port.' },
  NODE_NUMBERS_EXHAUSTED: {
    exit: 1,
    failure: 'transient',
    fix: 'At most 63 processes mint ids at a time: stop one, or try again in a moment.',
  },
  NODE_UNREACHABLE: {
    exit: 1,
    fix: 'Start it, let the coordinator in (pg_hba.conf), and run `create extension citus` there in the database of the same name.',
  },
  NOT_DISTRIBUTED: {
    exit: 1,
    fix: 'Nothing is to be done on one server; for more, README “Citus”, then `feedctl migrate`.',
  },
  NOT_LIVE: {
    exit: 1,
    failure: 'transient',
    fix: 'Wait: the gateway is well again by itself when its broker and its database are.',
  },
  OPERATION_CANCELLED: {
    exit: 3,
    fix: 'What was done stays; the same command begins anew.',
  },
  OPERATION_INPUT_CHANGED: {
    exit: 1,
    fix: 'Bring the file back as it was, or cancel the operation (`feedctl operation cancel`) and begin anew.',
  },
  OPERATION_NOT_CANCELLABLE: {
    exit: 1,
    fix: 'See `feedctl operation show` for what it is and how it stands.',
  },
  OPERATION_NOT_FOUND: { exit: 1, fix: 'See `feedctl operation list` for the ids.' },
  OPERATION_NOT_RESUMABLE: { exit: 1, fix: 'Run the command again: it begins anew.' },
  OPERATION_RUNNING: { exit: 1, fix: 'Wait for it to end, or stop the other run first.' },
  OVERLOADED: {
    exit: 1,
    failure: 'transient',
    fix: 'Try again in a moment; start more gateways or workers if it happens often.',
  },
  PORT_TAKEN: { exit: 1, fix: 'Pass another --port, or --port 0 for a free one.' },
  POST_EMPTY: { exit: 2, fix: 'Give the post a text.' },
  POST_NOT_FOUND: { exit: 1, fix: 'Check the id; a deleted post is gone for good.' },
  POST_TOO_LONG: { exit: 2, fix: 'Shorten the text to 5,000 characters.' },
  QUEUE_CONSUMED: {
    exit: 1,
    fix: 'Pause its lane first: `feedctl fanout pause --lane live|bulk`, for cleanups both (`--lane all`).',
  },
  QUEUE_FULL: {
    exit: 1,
    failure: 'transient',
    fix: 'Start more workers, or wait until the backlog is smaller.',
  },
  RATE_LIMITED: {
    exit: 1,
    failure: 'transient',
    fix: 'Wait for as long as Retry-After says; the limits are settings of the gateway.',
  },
  REBALANCE_FAILED: {
    exit: 1,
    fix: 'Mend what it says and run the same command again: what was moved stays there.',
  },
  REBALANCE_STOPPED: {
    exit: 3,
    fix: 'Run the same command again: it plans anew what is left.',
  },
  SCHEMA_MISSING: { exit: 1, fix: 'Run `feedctl migrate` first.' },
  SCHEMA_NEWER: {
    exit: 1,
    fix: 'Install the version of feedctl that migrated this database, or a newer one.',
  },
  SECRET_IN_FLAG: {
    exit: 2,
    fix: 'Pass the URL in the environment (FEEDCTL_DATABASE_URL, FEEDCTL_BROKER_URL, FEEDCTL_CACHE_URL): flags are visible to every user of the machine.',
  },
  SELF_FOLLOW: { exit: 2, fix: 'A user’s own posts are in their feed already.' },
  SHARD_NOT_FOUND: { exit: 1, fix: 'See `feedctl shards list` for the ids.' },
  SHARDS_BUSY: {
    exit: 1,
    fix: 'Wait for it (`feedctl shards status`), or end it with `feedctl shards rebalance --stop`.',
  },
  SHARDS_UNMOVABLE: { exit: 1, fix: 'Mend each thing it names; `feedctl doctor` looks at them too.' },
  STOP_TIMEOUT: { exit: 1, fix: 'Give it more time with --timeout, or look at what it is waiting for.' },
  TEXT_INVALID: { exit: 2, fix: 'Remove the characters that are no text.' },
  TIMED_OUT: {
    exit: 1,
    failure: 'transient',
    fix: 'Look at what the server it names is busy with, and try again.',
  },
  USAGE: { exit: 2, fix: 'See the command’s --help.' },
  USER_EXISTS: { exit: 1, fix: 'Pick another id, or leave --id away.' },
  USER_NOT_FOUND: { exit: 1, fix: 'Check the id, or create the user with `feedctl user create`.' },
  VERSION_CONFLICT: { exit: 1, fix: 'Read the post again and repeat the change on its newest version.' },
  WORKER_NOT_FOUND: { exit: 1, fix: 'See `feedctl worker list` for the ids.' },
  WRONG_PASSWORD: { exit: 1, fix: 'Correct the password; a user made by a command has none.' },
} as const satisfies Record<string, { exit: 1 | 2 | 3; fix: string; failure?: Failure }>;

export type ErrorCode = keyof typeof ERRORS;

/** A failure with a stable code. `message` says what and why; `suggestions` how to mend it. */
export class FeedctlError extends Error {
  readonly code: ErrorCode;
  readonly suggestions: readonly string[];

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; suggestions?: string[] } = {}) {
    super(message, { cause: options.cause });
    this.name = 'FeedctlError';
    this.code = code;
    this.suggestions = options.suggestions ?? [ERRORS[code].fix];
  }

  get exitStatus(): 1 | 2 | 3 {
    return ERRORS[this.code].exit;
  }
}

export function isFeedctlError(error: unknown, code?: ErrorCode): error is FeedctlError {
  return error instanceof FeedctlError && (code === undefined || error.code === code);
}

/** The text of anything thrown; an AggregateError (node's name for a refused dual-stack connect) has none of its own. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && !error.message) return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
