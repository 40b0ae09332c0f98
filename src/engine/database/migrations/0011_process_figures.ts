import type { MigrationBuilder } from 'node-pg-migrate';

/** Statistics that each process reports once a second, for `top` and `status`. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    -- Unlogged: a row is at most a second old. Text, because no SQL reads its content.
    create unlogged table process_figures (
      id           uuid primary key,
      host         text not null,
      pid          integer not null,
      -- Its roles: a process of \`up\` is both.
      worker       uuid,
      gateway      uuid,
      sockets      integer,
      memory_bytes bigint not null,
      -- Of one core, since the second before.
      cpu          double precision not null,
      figures      json not null,
      errors       json not null,
      seen_at      timestamptz not null default clock_timestamp()
    ) with (fillfactor = 50);
  `);
}
