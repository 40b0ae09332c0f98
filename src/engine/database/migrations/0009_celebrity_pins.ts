import type { MigrationBuilder } from 'node-pg-migrate';

/** Who was marked or unmarked by hand stays so, whatever a threshold says. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('alter table users add column push_pinned boolean not null default false');
}
