import type { Database } from '../database/database.ts';
import type { Check } from '../model/check.ts';
import { shardTroubles } from '../shards/list.ts';
import { type CitusNode, citusNodes } from '../shards/nodesSql.ts';

/**
 * Checks the nodes of Citus; returns nothing on plain PostgreSQL. The check of the schema already
 * covers that the tables are distributed and colocated.
 */
export async function checkCitus(db: Database): Promise<Check[]> {
  const { citusVersion, distributed, shards } = await db.sharding();
  if (!distributed) return [];
  const nodes = await citusNodes(db);
  const answering = nodes.filter((node) => node.walLevel !== null);
  const coordinator = nodes.find((node) => node.coordinator);
  const silent = namesOf(nodes.filter((node) => !node.active || node.walLevel === null));
  const physical = namesOf(answering.filter((node) => node.walLevel !== 'logical'));
  const unprepared = namesOf(answering.filter((node) => node.preparedTransactions === 0));
  const fewest = Math.min(...answering.map((node) => node.connections!));
  const sessions: Check = {
    name: 'citus sessions',
    status: 'ok',
    detail:
      `max_connections: ${coordinator?.connections ?? '?'} at the coordinator, ` +
      `${fewest} at the smallest node`,
  };
  return [
    {
      name: 'citus',
      status: 'ok',
      detail: `${citusVersion}, ${shards.length} shards, every table by its key, colocated`,
    },
    silent
      ? {
          name: 'citus nodes',
          status: 'fault',
          detail: `no answer, or not active: ${silent}`,
          fix: 'Start them; run `select citus_activate_node(host, port)` for a node that was disabled.',
        }
      : { name: 'citus nodes', status: 'ok', detail: `${nodes.length} active` },
    coordinator
      ? { name: 'citus coordinator', status: 'ok', detail: coordinator.name }
      : {
          name: 'citus coordinator',
          status: 'warning',
          detail: 'the nodes do not know it',
          fix: 'Run `select citus_set_coordinator_host(host, port)`: rebalancing shards needs it.',
        },
    physical
      ? {
          name: 'citus wal_level',
          status: 'warning',
          detail: `not logical on ${physical}`,
          fix: 'Set wal_level = logical and restart: moving shards without blocking writes needs it.',
        }
      : { name: 'citus wal_level', status: 'ok', detail: 'logical' },
    unprepared
      ? {
          name: 'citus transactions',
          status: 'fault',
          detail: `max_prepared_transactions is 0 on ${unprepared}`,
          fix: 'Set max_prepared_transactions to max_connections or more, and restart.',
        }
      : { name: 'citus transactions', status: 'ok', detail: 'two-phase commit' },
    fewest < (coordinator?.connections ?? 0)
      ? {
          ...sessions,
          status: 'warning',
          fix: 'Give every node as many connections as the coordinator: its sessions open one at each node.',
        }
      : sessions,
    ...(await shardTroubles(db)).map(
      ({ kind, detail, fix }): Check => ({ name: `citus ${kind}`, status: 'warning', detail, fix }),
    ),
  ];
}

const namesOf = (nodes: readonly CitusNode[]): string => nodes.map(({ name }) => name).join(', ');
