import { ROW_BYTES } from '../../model/messages.ts';
import { copyIn } from '../../store/copy.ts';
import { Database } from '../../store/database.ts';

export interface Measured {
  readonly rows: number;
  readonly seconds: number;
}

export async function measure(work: () => Promise<number>): Promise<Measured> {
  const startedAt = performance.now();
  const rows = await work();
  return { rows, seconds: (performance.now() - startedAt) / 1000 };
}

export const rowsPerSecond = (measured: Measured): number => measured.rows / measured.seconds;

export const round = (value: number): number => Math.round(value * 1000) / 1000;

/** As many workers as connections share the items. Throws what the first of them throws. */
export async function shareOut<Item>(
  items: Iterable<Item>,
  workers: number,
  work: (next: Iterable<Item>) => Promise<void>,
): Promise<void> {
  const queue = items[Symbol.iterator]();
  const shared: Iterable<Item> = { [Symbol.iterator]: () => ({ next: () => queue.next() }) };
  await Promise.all(Array.from({ length: workers }, () => work(shared)));
}

/** The limit: COPY of the same rows, in the same batches and order, over as many connections as the writer has. */
export async function rawCopy(
  url: string,
  table: string,
  batches: readonly Buffer[][],
  connections: number,
): Promise<number> {
  const db = new Database(url, { maxSessions: connections, applicationName: 'feedctl bench' });
  let bytes = 0;
  try {
    await shareOut(batches, connections, (next) =>
      db.withSession(async (session) => {
        for (const rows of next) {
          await copyIn(
            session,
            `copy ${table} (user_id, post_id, author_id) from stdin (format binary)`,
            rows,
          );
          bytes += rows.reduce((sum, part) => sum + part.length, 0);
        }
      }),
    );
  } finally {
    await db.close();
  }
  return bytes / ROW_BYTES;
}
