import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import type { CitusNode } from './nodesSql.ts';
import { openJobs, readActiveMoves, tablesWithoutIdentity } from './sql.ts';

/** Condition of a move that does not hold. */
export interface Requirement {
  readonly what: string;
  readonly fix: string;
}

/** Returns the nodes that a rebalance moves shards to. `drain`: the node that it empties. */
export const targetNodes = (nodes: readonly CitusNode[], drain?: CitusNode): CitusNode[] =>
  nodes.filter((node) => node.takesShards && node.active && node.id !== drain?.id);

interface NodeRequirement extends Requirement {
  readonly lacks: (node: CitusNode) => boolean;
}

/** Applies to nodes that answer. */
const NODE_REQUIREMENTS: readonly NodeRequirement[] = [
  {
    lacks: (node) => node.walLevel !== 'logical',
    what: 'wal_level is not logical',
    fix: 'Set wal_level = logical and restart: shards move by logical replication while they are written to.',
  },
  {
    // The coordinator needs one process for the queue of jobs and one for the move. Other nodes
    // need one for the changes.
    lacks: (node) => node.free!.workerProcesses < (node.coordinator ? 2 : 1),
    what: 'no background worker is left',
    fix: 'Raise max_worker_processes and restart.',
  },
  {
    lacks: (node) => node.takesShards && node.free!.logicalWorkers < 1,
    what: 'no logical replication worker is left',
    fix: 'Raise max_logical_replication_workers and restart.',
  },
  {
    lacks: (node) => node.free!.replicationSlots < 1,
    what: 'no replication slot is left',
    fix: 'Raise max_replication_slots and restart, or drop slots without a reader (`pg_replication_slots`).',
  },
  {
    lacks: (node) => node.free!.walSenders < 1,
    what: 'no WAL sender is left',
    fix: 'Raise max_wal_senders and restart.',
  },
];

/** Returns all requirements of a move that do not hold, so that one report suffices. */
export async function missingRequirements(
  db: Database,
  nodes: readonly CitusNode[],
  drain?: CitusNode,
): Promise<Requirement[]> {
  const silent = nodes.filter((node) => !node.active || node.free === null);
  const answering = nodes.filter((node) => node.free !== null);
  return [
    ...missingTargets(nodes, drain),
    ...atNodes(silent, {
      what: 'a node does not answer',
      fix: 'Start it, or look at `feedctl doctor`.',
    }),
    ...NODE_REQUIREMENTS.flatMap(({ lacks, ...requirement }) =>
      atNodes(answering.filter(lacks), requirement),
    ),
    ...missingIdentities(await tablesWithoutIdentity(db)),
  ];
}

function missingTargets(nodes: readonly CitusNode[], drain?: CitusNode): Requirement[] {
  const missing: Requirement[] = [];
  const fix = 'Add one with `feedctl node add <host:port>`.';
  if (nodes.filter((node) => node.takesShards || node.id === drain?.id).length < 2)
    missing.push({ what: 'fewer than two nodes take shards', fix });
  else if (targetNodes(nodes, drain).length === 0) missing.push({ what: 'no other node takes shards', fix });
  if (!nodes.some((node) => node.coordinator))
    missing.push({
      what: 'the nodes do not know the coordinator',
      fix: 'Run `select citus_set_coordinator_host(host, port)` there.',
    });
  return missing;
}

const atNodes = (lacking: readonly CitusNode[], { what, fix }: Requirement): Requirement[] =>
  lacking.length > 0 ? [{ what: `${what} (${lacking.map((node) => node.name).join(', ')})`, fix }] : [];

const missingIdentities = (tables: readonly string[]): Requirement[] =>
  tables.length === 0
    ? []
    : [
        {
          what: `tables without a primary key or replica identity: ${tables.join(', ')}`,
          fix:
            'Give each table one, at least `alter table … replica identity full`. ' +
            'Without one, row changes cannot follow the move.',
        },
      ];

/** Throws SHARDS_UNMOVABLE unless all requirements hold. */
export function requireAll(missing: readonly Requirement[]): void {
  if (missing.length === 0) return;
  throw new FeedctlError(
    'SHARDS_UNMOVABLE',
    `shards cannot be moved: ${missing.map(({ what }) => what).join('; ')}`,
    { suggestions: missing.map(({ fix }) => fix) },
  );
}

/** Throws SHARDS_BUSY while a job runs, or a move outside of a job. */
export async function requireIdle(db: Database): Promise<void> {
  const [job] = await openJobs(db);
  if (job) throw new FeedctlError('SHARDS_BUSY', `job ${job.id} has not ended: ${job.description}`);
  const [move] = await readActiveMoves(db);
  if (move)
    throw new FeedctlError(
      'SHARDS_BUSY',
      `process ${move.pid} of the coordinator moves a shard from ${move.from} to ${move.to}`,
    );
}
