import { FeedctlError } from '../../model/errors.ts';
import type { TopSnapshot } from './snapshot.ts';

/** First line of a recording. A later format gets another number. */
export const HEAD = { recording: 'feedctl top', version: 1 } as const;

/** Fields that are dates in memory and texts in JSON. */
const DATES: ReadonlySet<string> = new Set([
  'startedAt',
  'resumedAt',
  'finishedAt',
  'cancelRequestedAt',
  'occurredAt',
  'dispatchedAt',
  'since',
]);

const LISTS = ['queues', 'lanes', 'workers', 'gateways', 'moves', 'celebrities', 'operations', 'events'];
const OBJECTS = ['figures', 'backlog', 'cache', 'shards', 'sampling', 'storage', 'database', 'machine'];

/** One line of a recording, without its end. */
export const snapshotText = (snapshot: TopSnapshot): string => JSON.stringify(snapshot);

/** Returns the snapshot of a line. Throws RECORDING_DAMAGED, with the place in the message. */
export function parseSnapshot(line: string, place: string): TopSnapshot {
  let value: unknown;
  try {
    value = JSON.parse(line, (key, field) =>
      DATES.has(key) && typeof field === 'string' ? new Date(field) : field,
    );
  } catch {
    throw new FeedctlError('RECORDING_DAMAGED', `${place} is no JSON`);
  }
  if (!isSnapshot(value)) throw new FeedctlError('RECORDING_DAMAGED', `${place} is no snapshot of top`);
  return value;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function isSnapshot(value: unknown): value is TopSnapshot {
  if (!isObject(value) || !isObject(value.health)) return false;
  const { takenAt, context, health, sources, backlogSeries } = value;
  return (
    typeof takenAt === 'string' &&
    Number.isFinite(Date.parse(takenAt)) &&
    typeof context === 'string' &&
    Array.isArray(health.problems) &&
    Array.isArray(health.causes) &&
    Array.isArray(sources) &&
    Array.isArray(backlogSeries) &&
    LISTS.every((name) => value[name] === null || Array.isArray(value[name])) &&
    OBJECTS.every((name) => value[name] === null || isObject(value[name]))
  );
}
