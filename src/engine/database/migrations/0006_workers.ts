import type { MigrationBuilder } from 'node-pg-migrate';

/** Heartbeats of workers, for `worker list`. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    alter table workers
      add column rows_per_second double precision,
      -- Lag of the slowest batch since the previous heartbeat. Null without a batch.
      add column lag_ms          double precision,
      add column memory_bytes    bigint,
      -- Partitions of the broker's queues that it alone reads. Null if workers share the queues.
      add column reads           text[],
      -- The process runs nothing but this worker, so it may be drained.
      add column drainable       boolean not null default false;
  `);
}
