import type { MigrationBuilder } from 'node-pg-migrate';

/** State of the cluster itself: leases, operations, imports, gateways and presence. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    -- Numbers that make ids unique. reserved_until_ms: end of all ids that were minted so far.
    create table node_leases (
      node              smallint primary key,
      owner             uuid,
      expires_at        timestamptz not null default '-infinity',
      reserved_until_ms bigint not null default 0
    );
    insert into node_leases (node) select generate_series(0, 62);

    create table operations (
      id           bigint generated always as identity primary key,
      kind         text not null,
      key          text not null,
      state        text not null check (state in ('running', 'done', 'failed')),
      progress     jsonb not null default '{}',
      result       jsonb,
      started_at   timestamptz not null default now(),
      finished_at  timestamptz
    );
    create index operations_key on operations (kind, key);

    -- Imported seconds by file. Two files must not share seconds, because they would share ids.
    create table imports (
      digest       text primary key,
      first_second bigint not null,
      last_second  bigint not null,
      imported_at  timestamptz not null default now()
    );

    -- Deliveries of an import: one row per batch, committed with the batch.
    create table run_batches (
      run        bigint not null,
      deliveries integer not null,
      latency_ms double precision not null
    );
    create index run_batches_run on run_batches (run);

    create table gateways (
      id           uuid primary key,
      url          text not null,
      started_at   timestamptz not null default now(),
      heartbeat_at timestamptz not null default now()
    );
    create table workers (
      id           uuid primary key,
      host         text not null,
      pid          integer not null,
      version      text not null,
      started_at   timestamptz not null default now(),
      heartbeat_at timestamptz not null default now(),
      rows_written bigint not null default 0
    );
    create table presence (
      user_id    bigint not null,
      gateway_id uuid not null,
      primary key (user_id, gateway_id)
    );

    create table settings (
      name  text primary key,
      value jsonb not null
    );
    -- Key of the gateways for tokens: 256 random bits per cluster.
    insert into settings (name, value)
    values ('gateway.tokenKey',
            to_jsonb(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')));
  `);
}
