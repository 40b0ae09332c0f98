import type { MigrationBuilder } from 'node-pg-migrate';

/** State that the processes on a RabbitMQ broker share: see bus/rabbitmq. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    -- Barriers: the queues that have not passed each one yet. A barrier without queues is passed. Ids are
    -- random, because a reused virtual host may still hold barriers of another database.
    create table bus.marks (
      id      bigint primary key,
      waiting text[] not null,
      made_at timestamptz not null default now()
    );

    -- Consumers, their queues and their messages in flight. Unlogged: a row is at most a second old, and soon
    -- written again.
    create unlogged table bus.members (
      id      uuid primary key,
      queues  text[] not null,
      hands   jsonb not null,
      seen_at timestamptz not null default now()
    );
  `);
}
