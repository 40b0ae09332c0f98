import type { MigrationBuilder } from 'node-pg-migrate';

/** Heartbeats of workers, for `worker list`. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    alter table workers
      add column rows_per_second double precision,
      -- Of the slowest batch since the heartbeat before; null where there was none.
      add column lag_ms          double precision,
      add column memory_bytes    bigint,
      -- Partitions of the broker's queues that it alone reads; null where the queues are shared.
      add column reads           text[],
      -- Its process is nothing but this worker: it may be asked to end.
      add column drainable       boolean not null default false;
  `);
}
