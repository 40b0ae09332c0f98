import type { MigrationBuilder } from 'node-pg-migrate';

/** State that the processes on a RabbitMQ broker share: see bus/rabbitmq. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    -- A point in the life of some queues: those that have not come to it yet. None left: it is passed. The id is
    -- random: markers of another database may still be in a virtual host that was used before.
    create table bus.marks (
      id      bigint primary key,
      waiting text[] not null,
      made_at timestamptz not null default now()
    );

    -- Who consumes which queues now, and what is in their hands. Unlogged: a second old at most, and soon written again.
    create unlogged table bus.members (
      id      uuid primary key,
      queues  text[] not null,
      hands   jsonb not null,
      seen_at timestamptz not null default now()
    );
  `);
}
