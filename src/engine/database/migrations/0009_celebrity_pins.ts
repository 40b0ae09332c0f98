import type { MigrationBuilder } from 'node-pg-migrate';

/** Authors that were marked or unmarked by hand keep that state in evaluations. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('alter table users add column push_pinned boolean not null default false');
}
