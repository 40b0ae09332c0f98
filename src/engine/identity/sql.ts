/** Ordinal numbers of marks that are kept. A mark below them counts as known: at least three hours old. */
const KEPT_MARKS = 10_000;

const SYSTEM = `
  (select system_identifier from pg_control_system()) || '.' ||
  (select oid from pg_database where datname = current_database())`;

/** A standby has no timeline to write to, and the function fails there. */
const TIMELINE = `
  case when pg_is_in_recovery() then 0
       else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer end`;

/**
 * In: a mark (ordinal, nonce) and a lineage that the process knows, or nulls. Result: one row, without an
 * identity if the database has none yet.
 */
export const CONFIRM = `
  select pg_is_in_recovery() as standby, current_setting('transaction_read_only') = 'on' as "readOnly",
         ${SYSTEM} as system, ${TIMELINE} as timeline,
         (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text as instance,
         i.cluster, i.lineage, i.system as "knownSystem", i.timeline as "knownTimeline",
         i.key_prefix as "keyPrefix",
         (select reason from lineages where lineage = i.lineage) as reason,
         $1::bigint is null or exists (select from lineage_marks where ordinal = $1 and nonce = $2)
           or $1 < coalesce((select min(ordinal) from lineage_marks), 0) as "hasMark",
         $3::text is null or exists (select from lineages where lineage = $3) as "hasLineage"
  from (values (1)) as one (row) left join cluster_identity i on true`;

/**
 * In: cluster, lineage. Atomic: the first of several processes writes the row. The keys in Redis keep the
 * name that they had before clusters had an identity: database and timeline.
 */
export const CREATE = `
  with created as (
    insert into cluster_identity (cluster, lineage, system, timeline, key_prefix)
    select $1, $2, ${SYSTEM}, ${TIMELINE},
           ${SYSTEM} || '.' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
    on conflict do nothing returning lineage)
  insert into lineages (lineage, reason) select lineage, 'first' from created`;

/** Name of the setting that lists the key prefixes of earlier lineages. */
const EARLIER_PREFIXES = 'cache.earlier_prefixes';

/**
 * In: new lineage, present lineage, reason, channel. Atomic: one of several processes replaces the lineage,
 * and all are notified.
 */
export const RENEW = `
  with renewed as (
    update cluster_identity
    set lineage = $1, system = ${SYSTEM}, timeline = ${TIMELINE}, key_prefix = cluster || '.' || $1
    from (select key_prefix as earlier from cluster_identity) as before
    where lineage = $2 returning lineage, earlier),
  listed as (
    insert into settings (name, value)
    select '${EARLIER_PREFIXES}', jsonb_build_array(earlier) from renewed
    on conflict (name) do update set value = settings.value || excluded.value),
  kept as (insert into lineages (lineage, parent, reason) select lineage, $2, $3 from renewed)
  select pg_notify($4, lineage) from renewed`;

/**
 * In: cluster, lineage, channel. Atomic. Forgets the roles of the original, which the copy lists: `top` and
 * fan-out would count on them until they are dead.
 */
export const RENAME = `
  with renamed as (
    update cluster_identity
    set cluster = $1, lineage = $2, system = ${SYSTEM}, timeline = ${TIMELINE}, key_prefix = $1 || '.' || $2,
        production = false, broker = '{}', cache = '{}'
    returning lineage),
  forgotten as (delete from lineages),
  no_workers as (delete from workers),
  no_gateways as (delete from gateways),
  no_presence as (delete from presence),
  no_members as (delete from bus.members),
  unlisted as (delete from settings where name = '${EARLIER_PREFIXES}'),
  kept as (insert into lineages (lineage, reason) select lineage, 'a copy became a cluster' from renamed)
  select pg_notify($3, lineage) from renamed`;

/** In: nonce, maximum age in ms. Result: a mark of any process that is not older, or a new one. */
export const MARK = `
  with recent as (
    select ordinal, nonce from lineage_marks
    where made_at > clock_timestamp() - $2 * interval '1 ms'
      and ordinal = (select max(ordinal) from lineage_marks)),
  made as (
    insert into lineage_marks (nonce) select $1 where not exists (select from recent)
    returning ordinal, nonce),
  pruned as (delete from lineage_marks where ordinal < (select ordinal - ${KEPT_MARKS} from made))
  select ordinal, nonce from recent union all select ordinal, nonce from made`;

/** Result: the key prefixes of earlier lineages. */
export const EARLIER = `
  select jsonb_array_elements_text(value) as prefix from settings where name = '${EARLIER_PREFIXES}'`;

export const HISTORY = `
  select lineage, parent, reason, opened_at as "openedAt" from lineages order by opened_at, lineage`;
