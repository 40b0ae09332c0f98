import { setTimeout as sleep } from 'node:timers/promises';
import { DURABLE_QUEUES } from '../../engine/bus/bus.ts';
import type { Queryable } from '../../engine/database/database.ts';
import { settingsOf } from '../baseCommand.ts';
import type { Candidate, CompletionSources } from './complete.ts';

/** Maximum wait at Tab for a database that does not answer. */
const TIMEOUT_MS = 1_000;
/** Operations and dead letters that are offered, the newest first. */
const MAX_OFFERED = 50;
const MAX_ABOUT = 60;

/** Returns the names that there are now in the cluster that these words name. */
export const sourcesOf = (words: readonly string[]): CompletionSources => ({
  contexts: async () => {
    const { listContexts } = await import('../../engine/config/contexts.ts');
    const contexts = await listContexts(process.env);
    return contexts.map(({ name, current }) => ({ value: name, ...(current && { about: 'in use' }) }));
  },
  queues: async () => DURABLE_QUEUES.map((value) => ({ value })),
  codes: async () => {
    const { ERRORS } = await import('../../engine/model/errors.ts');
    return Object.entries(ERRORS).map(([value, { fix }]) => ({ value, about: fix }));
  },
  nodes: () =>
    inDatabase(words, async (db) => {
      const { citusNodes } = await import('../../engine/shards/nodesSql.ts');
      return (await citusNodes(db)).map(({ name }) => ({ value: name }));
    }),
  workers: () =>
    inDatabase(words, async (db) => {
      const { registeredWorkers } = await import('../../engine/fleet/workers.ts');
      const workers = await registeredWorkers(db);
      return workers.map(({ id, host, pid }) => ({ value: id, about: `process ${pid} on ${host}` }));
    }),
  gateways: () =>
    inDatabase(words, async (db) => {
      const { listGateways } = await import('../../engine/store/processes.ts');
      return (await listGateways(db)).map(({ id, url }) => ({ value: id, about: url }));
    }),
  operations: () =>
    inDatabase(words, async (db) => {
      const { listOperations } = await import('../../engine/operations/table.ts');
      const operations = await listOperations(db, { states: undefined, kind: undefined, limit: MAX_OFFERED });
      return operations.map(({ id, state, command, kind, key }) => ({
        value: String(id),
        about: `${state}: ${command ?? `${kind} ${key}`}`,
      }));
    }),
  letters: () =>
    inDatabase(words, async (db) => {
      const { findDeadLetters } = await import('../../engine/store/deadLetters.ts');
      const { letters } = await findDeadLetters(db, {}, MAX_OFFERED);
      return letters.map(({ id, queue, reason }) => ({ value: String(id), about: `${queue}: ${reason}` }));
    }),
});

/** Returns a description as one short line: the shell shows it beside the word. */
export const aboutLine = (about: string): string => about.replaceAll(/\s+/g, ' ').slice(0, MAX_ABOUT);

/** Returns what `find` finds in the database, or nothing if that takes too long. */
async function inDatabase(
  words: readonly string[],
  find: (db: Queryable) => Promise<Candidate[]>,
): Promise<readonly Candidate[]> {
  const { loadConfig } = await import('../../engine/config/config.ts');
  const { resolveDatabase } = await import('../../engine/cluster/cluster.ts');
  const { Database } = await import('../../engine/database/database.ts');
  const config = await loadConfig(settingsOf(settingsIn(words)));
  const db = new Database(await resolveDatabase(config), { maxSessions: 1 });
  return Promise.race([find(db), sleep(TIMEOUT_MS, [], { ref: false })]);
}

/** Returns the flags among the words of an incomplete command line. */
function settingsIn(words: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [at, word] of words.entries()) {
    const [, name, value] = /^--([\w-]+)(?:=(.*))?$/.exec(word) ?? [];
    const given = value ?? words[at + 1];
    if (name !== undefined && given) found[name] = given;
  }
  return found;
}
