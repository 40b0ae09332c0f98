import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * W3C trace context of the request that created an event. Null without a trace, which needs no byte
 * of a row.
 */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    alter table events add column traceparent text;
    alter table bus.messages add column traces text;
  `);
}
