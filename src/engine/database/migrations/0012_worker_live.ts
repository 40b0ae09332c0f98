import type { MigrationBuilder } from 'node-pg-migrate';

/** Whether a worker's broker takes what it sends: one of before, which does not say, is as ready as it is heard of. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('alter table workers add column live boolean not null default true');
}
