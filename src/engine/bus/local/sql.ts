import { escapeLiteral } from 'pg';
import { HEADER_BYTES, RECORDS_AT, RECORDS_MASK } from '../../model/messages.ts';

/** Statements of the bus in PostgreSQL. database/migrations/0003_bus.ts explains the table. */

export const WAKE_CHANNEL = 'feedctl_bus';
/** First key of the consumers' advisory locks: "fb". */
export const CONSUMER_LOCK = 0x6662;

/**
 * In: `count` times queue, body and delay in ms as flat parameters; if `traced`, traces too.
 * Wakes the consumers of each queue at commit.
 */
export const putStatement = (count: number, traced: boolean): string => {
  const each = traced ? 4 : 3;
  const rows = Array.from({ length: count }, (_, i) => {
    const [queue, body, delay, traces] = [1, 2, 3, 4].map((nth) => `$${i * each + nth}`);
    const visible = `clock_timestamp() + ${delay} * interval '1 ms'`;
    return `(${queue}, ${body}, ${visible}${traced ? `, ${traces}` : ''})`;
  });
  return `
    with inserted as (insert into bus.messages (queue, body, visible_at${traced ? ', traces' : ''})
                      values ${rows.join(', ')} returning queue)
    select pg_notify('${WAKE_CHANNEL}', queue) from (select distinct queue from inserted) queues`;
};

/**
 * Leases up to `count` messages of one queue, oldest first, and sends them by COPY. The driver would
 * otherwise get the bytes as hexadecimal text, whose decoding costs more than the rest of the queue.
 * COPY takes no parameters, so they are part of the text. Out: id, body, attempts, deliveries, traces.
 * Atomic: rows are locked as they are selected, and rows that others have locked are skipped.
 */
export const takeStatement = (take: {
  queue: string;
  count: number;
  consumer: number;
  leaseMs: number;
}): string => {
  const queue = escapeLiteral(take.queue);
  return `
    copy (
      update bus.messages m set consumer = ${take.consumer},
             visible_at = clock_timestamp() + ${take.leaseMs} * interval '1 ms', deliveries = deliveries + 1
      from (select id from bus.messages where queue = ${queue} and visible_at <= clock_timestamp()
            order by id limit ${take.count} for update skip locked) due
      where m.queue = ${queue} and m.id = due.id
      returning m.id, m.body, m.attempts, m.deliveries, m.traces
    ) to stdout (format binary)`;
};

/** In: queue, ids, consumer, lease in ms. */
export const RENEW = `
  update bus.messages set visible_at = clock_timestamp() + $4 * interval '1 ms'
  where queue = $1 and id = any($2) and consumer = $3`;

/** In: queue, ids, consumer. Leaves messages that another consumer has leased meanwhile. */
export const ACK = `delete from bus.messages where queue = $1 and id = any($2) and consumer = $3`;

/**
 * In: queue, id, consumer, delay in ms, attempts to add. Resets `deliveries`: only deliveries that were
 * not settled count towards dead-lettering a message that kills its consumers.
 */
export const RETRY = `
  update bus.messages set consumer = null, visible_at = clock_timestamp() + $4 * interval '1 ms',
         attempts = attempts + $5, deliveries = 0
  where queue = $1 and id = $2 and consumer = $3`;

/** In: queue, id, consumer, reason. Atomic: the message is always in exactly one of the tables. */
export const DEAD_LETTER = `
  with dead as (delete from bus.messages where queue = $1 and id = $2 and consumer = $3 returning *)
  insert into bus.dead_letters (id, queue, body, attempts, reason)
  select id, queue, body, attempts, $4 from dead`;

/** In: queue, ids, consumer number, which all consumers of a process share. Requeues and wakes. */
export const RELEASE = `
  with back as (update bus.messages set consumer = null, visible_at = clock_timestamp()
                where queue = $1 and id = any($2) and consumer = $3 returning queue)
  select pg_notify('${WAKE_CHANNEL}', queue) from (select distinct queue from back) queues`;

/**
 * In: queues. Requeues the messages of consumers whose session has ended, so that a crash costs no wait
 * for the lease. Such a consumer cannot settle its messages any more.
 */
export const RECOVER = `
  update bus.messages set consumer = null, visible_at = clock_timestamp()
  where queue = any($1) and consumer is not null
    and consumer not in (
      select objid::integer from pg_locks
      where locktype = 'advisory' and classid = ${CONSUMER_LOCK} and objsubid = 2 and granted
        and database = (select oid from pg_database where datname = current_database()))`;

/** In: queues. Out: milliseconds until the next message is due; null: no message. */
export const NEXT_DUE = `
  select extract(epoch from min(visible_at) - clock_timestamp()) * 1000 as due_ms
  from bus.messages where queue = any($1)`;

/** In: queues. Out: the position of a barrier. */
export const MAX_ID = `select coalesce(max(id), 0) as position from bus.messages where queue = any($1)`;

/** In: queues, position. One index lookup for each queue. */
export const ANY_BEFORE = `
  select exists (select from unnest($1::text[]) q(queue)
    cross join lateral (
      select 1 from bus.messages m where m.queue = q.queue and m.id <= $2 limit 1) m) as found`;

/** In: queues. One index lookup for each queue. */
export const HOLDS = `
  select exists (select from unnest($1::text[]) q(queue)
    cross join lateral (select 1 from bus.messages m where m.queue = q.queue limit 1) m) as found`;

/** Sizes come from the row headers: the bodies are not read. */
export const DEPTHS = `
  select queue, sum(ready)::bigint as ready, sum(unacked)::bigint as unacked, max(age_ms) as age_ms,
         sum(bytes)::bigint as bytes, sum(dead)::bigint as dead
  from (select queue, count(*) filter (where consumer is null) as ready, count(consumer) as unacked,
               greatest(0, extract(epoch from clock_timestamp() - min(published_at)) * 1000) as age_ms,
               sum(octet_length(body)) as bytes, 0 as dead
        from bus.messages group by queue
        union all
        select queue, 0, 0, 0, 0, count(*) from bus.dead_letters group by queue) sizes
  group by queue order by queue`;

/**
 * Number of records in the first messages of each queue, from their headers (`model/messages.ts`). Bodies
 * are stored uncompressed, so a few bytes of one chunk are read. Out: queue, messages, read, records.
 */
export const RECORDS = `
  select queues.queue, queues.messages, first.read, first.records
  from (select queue, count(*) as messages from bus.messages group by queue) queues
  cross join lateral (
    select count(*) as read,
           coalesce(sum(('x' || encode(substring(body from ${RECORDS_AT + 1} for 4), 'hex'))::bit(32)::bigint
             & ${RECORDS_MASK}), 0)::bigint as records
    from (select body from bus.messages m
          where m.queue = queues.queue and octet_length(body) >= ${HEADER_BYTES}
          order by id limit 2000) headed) first`;

/** In: queue, limit. Messages that wait, oldest first. */
export const PEEK = `
  select body, published_at as "publishedAt", deliveries from bus.messages
  where queue = $1 and consumer is null order by id limit $2`;

export const DROP = `delete from bus.messages where queue = $1`;
