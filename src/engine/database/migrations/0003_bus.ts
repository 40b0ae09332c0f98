import type { MigrationBuilder } from 'node-pg-migrate';

/** Queue of an embedded cluster, which has no broker: see bus/local. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    create schema bus;

    -- Bodies are stored out of line and uncompressed. So leasing and acking a message update a short row in
    -- place (no indexed column changes, and pages keep room). The bytes are written once and read once.
    create table bus.messages (
      id         bigint generated always as identity,
      queue      text not null,
      body       bytea not null,
      attempts   smallint not null default 0,
      deliveries integer not null default 0,
      visible_at timestamptz not null default now(),
      consumer   integer,
      published_at timestamptz not null default now(),
      primary key (queue, id)
    ) with (fillfactor = 60, toast_tuple_target = 128,
            autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
            toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 20000);
    alter table bus.messages alter column body set storage external;

    create table bus.dead_letters (
      id       bigint primary key,
      queue    text not null,
      body     bytea not null,
      attempts smallint not null,
      reason   text not null,
      died_at  timestamptz not null default now()
    );

    -- A consumer holds the advisory lock of its id as long as its session lives.
    create sequence bus.consumer_id as integer cycle;
  `);
}
