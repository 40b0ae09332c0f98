import { setTimeout as sleep } from 'node:timers/promises';
import { type Database, SHARDING_AGE_MS } from '../database/database.ts';
import { counted } from '../model/counted.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { findNode, type NodeShards, nodeShards, parseNode, requireDistributed } from './list.ts';
import { citusNodes } from './nodesSql.ts';
import {
  addNode as addToDatabase,
  checkConnection,
  cleanUp,
  readShards,
  removeNode,
  setTakesShards,
} from './sql.ts';

/**
 * After this time every process has newer knowledge of the shards, and its earlier statements have
 * ended.
 */
const FORGOTTEN_AFTER_MS = SHARDING_AGE_MS + 10_000;

/** Throws NOT_DISTRIBUTED. */
export async function listNodes(db: Database): Promise<NodeShards[]> {
  await requireDistributed(db);
  return nodeShards(await citusNodes(db), await readShards(db));
}

export interface AddResult {
  readonly node: string;
  /** `present`: it takes shards already. `drained`: it was drained, and takes shards again. */
  readonly was: 'unknown' | 'drained' | 'present';
}

/**
 * Adds a server as a node that takes shards. It gets its first shards with a rebalance. A drained
 * node takes shards again. Throws NOT_DISTRIBUTED, NODE_UNREACHABLE, USAGE.
 */
export async function addNode(db: Database, text: string, options: { dryRun: boolean }): Promise<AddResult> {
  await requireDistributed(db);
  const { host, port, name: node } = parseNode(text);
  const known = (await citusNodes(db)).find((one) => one.name === node);
  if (known?.takesShards) return { node, was: 'present' };
  if (known) {
    if (!options.dryRun) await setTakesShards(db, known, true);
    return { node, was: 'drained' };
  }
  if (!(await checkConnection(db, { host, port })))
    throw new FeedctlError('NODE_UNREACHABLE', `${node} does not let the coordinator in, or does not answer`);
  if (!options.dryRun)
    await addToDatabase(db, { host, port }).catch((error) => {
      throw new FeedctlError('NODE_UNREACHABLE', `${node} cannot become a node: ${messageOf(error)}`, {
        cause: error,
      });
    });
  return { node, was: 'unknown' };
}

/** Throws NODE_NOT_FOUND, or NODE_IN_USE for the coordinator. */
export async function checkRemovable(db: Database, text: string): Promise<void> {
  await requireDistributed(db);
  if (findNode(await citusNodes(db), text).coordinator)
    throw new FeedctlError('NODE_IN_USE', `${text} is the coordinator: the cluster cannot do without it`);
}

/**
 * Removes an empty node from Citus. Waits until no process reads from it: processes refresh their
 * knowledge of the shards every 30 s. Throws NODE_IN_USE, NODE_NOT_FOUND, INTERRUPTED,
 * NOT_DISTRIBUTED.
 */
export async function removeEmptyNode(
  db: Database,
  text: string,
  options: { signal?: AbortSignal; onProgress?(seconds: number, total: number): void } = {},
): Promise<void> {
  await checkRemovable(db, text);
  const node = findNode(await citusNodes(db), text);
  const shards = (await readShards(db)).filter((group) => group.nodeId === node.id).length;
  if (shards > 0) throw new FeedctlError('NODE_IN_USE', `${node.name} still has ${counted(shards, 'shard')}`);
  for (const from = performance.now(); performance.now() - from < FORGOTTEN_AFTER_MS; ) {
    options.onProgress?.((performance.now() - from) / 1000, FORGOTTEN_AFTER_MS / 1000);
    await sleep(500, undefined, options.signal && { signal: options.signal }).catch(() => {});
    if (options.signal?.aborted)
      throw new FeedctlError('INTERRUPTED', `${node.name} is empty, and still a node of the cluster`, {
        suggestions: ['Run the same command again: it removes the node.'],
      });
  }
  await cleanUp(db);
  await removeNode(db, node);
}
