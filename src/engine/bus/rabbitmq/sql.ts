/** Every statement of the RabbitMQ driver. Tables: database/migrations/0004_rabbitmq.ts. */

/** JSON `partitions` (messages are published to them) and `declared` (existing, more while some drain). */
export const TOPOLOGY_SETTING = 'bus.topology';

/** In: partitions of a new cluster. Out: the setting. */
export const FIRST_TOPOLOGY = `
  with made as (insert into settings (name, value)
                values ('${TOPOLOGY_SETTING}',
                        jsonb_build_object('partitions', $1::integer, 'declared', $1::integer))
                on conflict (name) do nothing returning value)
  select value from made union all select value from settings where name = '${TOPOLOGY_SETTING}' limit 1`;

export const READ_TOPOLOGY = `select value from settings where name = '${TOPOLOGY_SETTING}'`;

/** In: partitions. Surplus ones stay declared until they are empty. */
export const CHANGE_PARTITIONS = `
  update settings set value = jsonb_build_object(
    'partitions', $1::integer, 'declared', greatest($1::integer, (value ->> 'declared')::integer))
  where name = '${TOPOLOGY_SETTING}'`;

/** In: partitions, names of the surplus queues. Out: a row, unless a barrier waits for one of them. */
export const END_DRAINED = `
  update settings set value = jsonb_build_object('partitions', $1::integer, 'declared', $1::integer)
  where name = '${TOPOLOGY_SETTING}' and (value ->> 'partitions')::integer = $1
    and not exists (select from bus.marks where waiting && $2::text[])
  returning 1`;

/** In: id, names of queues. */
export const INSERT_BARRIER = 'insert into bus.marks (id, waiting) values ($1, $2)';

/** Lock for declaring (shared) and changing the topology. A session's lock: a crash releases it. */
const TOPOLOGY_LOCK = `hashtext('feedctl broker topology')`;
export const LOCK_TOPOLOGY = `select pg_advisory_lock(${TOPOLOGY_LOCK})`;
export const LOCK_TOPOLOGY_SHARED = `select pg_advisory_lock_shared(${TOPOLOGY_LOCK})`;
export const UNLOCK_TOPOLOGY = 'select pg_advisory_unlock_all()';

/** In: queues, and a barrier that each has reached. Idempotent: a marker may be delivered twice. */
export const PASS_BARRIERS = `
  update bus.marks set waiting = array(
    select name from unnest(waiting) as still (name)
    except all select name from unnest($1::text[], $2::bigint[]) as passed (name, mark) where mark = marks.id)
  where id = any($2)`;

/** In: id. A barrier without a row has passed and was deleted. */
export const BARRIER_PASSED = `
  select not exists (select from bus.marks where id = $1 and cardinality(waiting) > 0) as passed`;

/** Deletes passed barriers after an hour. Those whose process died before publishing go after a month. */
export const DELETE_OLD_BARRIERS = `
  delete from bus.marks
  where made_at < now() - interval '30 days'
     or (cardinality(waiting) = 0 and made_at < now() - interval '1 hour')`;

/** Age of the last heartbeat from which a member is dead. */
const HEARTBEAT_TIMEOUT_MS = 3_500;

/** In: this process's members as JSON, their ids. Out: members of other processes, and the topology. */
export const HEARTBEAT = `
  with beat as (insert into bus.members (id, queues, hands, settled, seen_at)
                select id, queues, hands, settled, clock_timestamp()
                from jsonb_to_recordset($1) m(id uuid, queues text[], hands jsonb, settled jsonb)
                on conflict (id) do update set queues = excluded.queues, hands = excluded.hands,
                                               settled = excluded.settled, seen_at = excluded.seen_at),
       expired as (delete from bus.members
                   where seen_at < clock_timestamp() - interval '1 minute' and id <> all($2))
  select (select value from settings where name = '${TOPOLOGY_SETTING}') as topology,
         coalesce((
           select jsonb_agg(jsonb_build_object('id', id, 'queues', queues)) from bus.members
           where id <> all($2) and seen_at > clock_timestamp() - interval '${HEARTBEAT_TIMEOUT_MS} ms'
         ), '[]') as others`;

/** In: id. */
export const LEAVE = 'delete from bus.members where id = $1';

/** Out: the queues that have consumers. */
export const CONSUMED = `
  select distinct unnest(queues) as queue from bus.members
  where seen_at > clock_timestamp() - interval '${HEARTBEAT_TIMEOUT_MS} ms'`;

/** In: ids to leave out. Out: messages in the processes of the other members. */
export const IN_FLIGHT = `
  select hands from bus.members
  where id <> all($1) and seen_at > clock_timestamp() - interval '${HEARTBEAT_TIMEOUT_MS} ms'`;
