import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * A worker's broker accepts messages. Workers of older versions do not report this, so their
 * heartbeat decides.
 */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('alter table workers add column live boolean not null default true');
}
