import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * The progress of an import counts the rows that workers have written for it, also those that a feed had
 * already. Workers of an older version leave the column null.
 */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('alter table run_batches add column if not exists rows integer');
}
