import { randomUUID } from 'node:crypto';
import amqp from 'amqplib';
import { Database } from '../database/database.ts';
import { ROW_BYTES, rowAuthor, rowPost, rowUser } from '../model/messages.ts';
import { runConcurrently } from '../util/parallel.ts';
import { type Measured, measure } from './limit.ts';

/** A part of the rows is enough: the baselines are dozens of times slower. */
const ROWS = 20_000;
const CONNECTIONS = 16;
const QUEUES = 4;
const CONFIRM_WINDOW = 400;
const PREFETCH = 50;

export const BASELINES = {
  'one-insert': `one insert a row, ${CONNECTIONS} connections`,
  'per-follower': `one persistent message a follower, ${QUEUES} queues, ${CONNECTIONS} connections`,
  none: 'none',
} as const;
export type BaselineName = keyof typeof BASELINES;

type FeedRow = [userId: number, postId: number, authorId: number];

const INSERT = (table: string) => `insert into ${table} (user_id, post_id, author_id) values ($1, $2, $3)`;

function firstRows(batches: readonly Buffer[][]): FeedRow[] {
  const rows: FeedRow[] = [];
  for (const part of batches.flat()) {
    for (let at = 0; at < part.length && rows.length < ROWS; at += ROW_BYTES)
      rows.push([rowUser(part, at), rowPost(part, at), rowAuthor(part, at)]);
  }
  return rows;
}

/** The simplest way: one statement and one commit a row. */
export async function oneInsertEach(
  databaseUrl: string,
  table: string,
  batches: readonly Buffer[][],
): Promise<Measured> {
  const rows = firstRows(batches);
  const pool = new Database(databaseUrl, { maxSessions: CONNECTIONS, applicationName: 'feedctl bench' });
  try {
    return await measure(async () => {
      await runConcurrently(rows, CONNECTIONS, (row) => pool.query(INSERT(table), row));
      return rows.length;
    });
  } finally {
    await pool.close();
  }
}

/**
 * A common design, on the same servers: one persistent message a follower through a consistent-hash
 * exchange into four durable queues, confirmed in windows of 400, consumed with a prefetch of 50 a
 * queue, one insert each over 16 connections. Measures from the first publish to the last ack.
 */
export async function perFollowerMessages(
  brokerUrl: string,
  databaseUrl: string,
  table: string,
  batches: readonly Buffer[][],
): Promise<Measured> {
  const rows = firstRows(batches);
  const name = `feed.bench.${randomUUID().slice(0, 8)}`;
  const queues = Array.from({ length: QUEUES }, (_, i) => `${name}.${i}`);
  const pool = new Database(databaseUrl, { maxSessions: CONNECTIONS, applicationName: 'feedctl bench' });
  const connection = await amqp.connect(brokerUrl.split(',')[0]!.trim());
  const broken = new Promise<never>((_, reject) => {
    connection.on('error', reject);
  });
  broken.catch(() => {});
  try {
    const publisher = await connection.createConfirmChannel();
    await publisher.assertExchange(name, 'x-consistent-hash', { durable: true });
    for (const queue of queues) {
      await publisher.assertQueue(queue, { durable: true });
      await publisher.bindQueue(queue, name, '1');
    }
    const run = async () => {
      let inserted = 0;
      const done = Promise.withResolvers<void>();
      for (const queue of queues) {
        const channel = await connection.createChannel();
        await channel.prefetch(PREFETCH);
        await channel.consume(queue, (message) => {
          if (!message) return; // The queue was deleted.
          pool.query(INSERT(table), JSON.parse(message.content.toString()) as FeedRow).then(() => {
            channel.ack(message);
            inserted += 1;
            if (inserted === rows.length) done.resolve();
          }, done.reject);
        });
      }
      for (let from = 0; from < rows.length; from += CONFIRM_WINDOW) {
        for (const row of rows.slice(from, from + CONFIRM_WINDOW))
          publisher.publish(name, String(row[0]), Buffer.from(JSON.stringify(row)), { persistent: true });
        await publisher.waitForConfirms();
      }
      await done.promise;
      return inserted;
    };
    return await measure(() => Promise.race([run(), broken]));
  } finally {
    const channel = await connection.createChannel().catch(() => undefined);
    for (const queue of queues) await channel?.deleteQueue(queue).catch(() => {});
    await channel?.deleteExchange(name).catch(() => {});
    await connection.close().catch(() => {});
    await pool.close();
  }
}
