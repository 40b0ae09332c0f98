import type { MigrationBuilder } from 'node-pg-migrate';

/** Owner, progress, result and cancellation of an operation, for `operation list`. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    alter table operations
      add column who     text,
      -- Command and arguments that run the same work. Null for work of a role.
      add column command text,
      add column args    text[] not null default '{}',
      -- Input files: argument, path, digest.
      add column inputs  jsonb not null default '[]',
      add column done    bigint,
      add column total   bigint,
      add column unit    text,
      add column noted_at    timestamptz,
      -- Start of the current or last run. Rates count from there.
      add column resumed_at  timestamptz not null default now(),
      add column done_before bigint not null default 0,
      add column runs        integer not null default 1,
      -- Work that would stay half done if it ended now, and its repair. Null if it may end at any time.
      add column half_done   text,
      add column cancel_requested_at timestamptz,
      add column cancelled_by        text,
      -- Code and message of a failure.
      add column error jsonb,
      drop constraint operations_state_check,
      add constraint operations_state_check check (state in ('running', 'done', 'failed', 'cancelled'));
  `);
}
