import type { MigrationBuilder } from 'node-pg-migrate';

/** Where the trace of a request goes on: null of what nobody traces, and then not a byte of a row. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    alter table events add column traceparent text;
    alter table bus.messages add column traces text;
  `);
}
