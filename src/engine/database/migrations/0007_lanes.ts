import type { MigrationBuilder } from 'node-pg-migrate';

/** Pauses and throttles of fan-out lanes, and counters that queue rates are computed from. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    create table fanout_lanes (
      lane            text primary key check (lane in ('live', 'bulk')),
      paused_at       timestamptz,
      paused_by       text,
      pause_reason    text,
      -- Rate of the whole cluster. Null: no limit.
      rows_per_second integer check (rows_per_second > 0),
      throttled_at    timestamptz,
      throttled_by    text,
      throttle_reason text
    );
    insert into fanout_lanes (lane) values ('live'), ('bulk');

    -- Paused lanes without messages in flight at this worker.
    alter table workers add column paused text[] not null default '{}';
    -- Messages that left each queue through this member since it joined. Two samples make a rate.
    alter table bus.members add column settled jsonb not null default '{}';
  `);
}
