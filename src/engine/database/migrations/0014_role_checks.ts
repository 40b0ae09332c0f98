import type { MigrationBuilder } from 'node-pg-migrate';

/** What a role finds when it uses its dependencies: a list of checks, as `doctor` prints them. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('alter table workers add column checks jsonb');
  pgm.sql('alter table gateways add column checks jsonb');
}
