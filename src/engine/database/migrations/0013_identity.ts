import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * The identity of the cluster, which the first process that opens the database writes. A copied database
 * has a copied identity, so the row says on which server it was written.
 */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    create table cluster_identity (
      only_row boolean primary key default true check (only_row),
      cluster text not null,
      -- History of this database. Another one begins when the database has lost commits.
      lineage text not null,
      -- System identifier and oid of the database, and the timeline, when the lineage began.
      system text not null,
      timeline integer not null,
      -- Prefix of this lineage's keys in Redis.
      key_prefix text not null,
      production boolean not null default false,
      -- The broker and the cache that the cluster uses. Null: none. '{}': not known yet.
      broker jsonb default '{}',
      cache jsonb default '{}'
    );
    create table lineages (
      lineage text primary key,
      parent text,
      reason text not null,
      opened_at timestamptz not null default clock_timestamp()
    );
    -- Marks that were also written outside of the database. One that is missing here was lost.
    create table lineage_marks (
      ordinal bigint generated always as identity primary key,
      nonce text not null,
      made_at timestamptz not null default clock_timestamp()
    );
  `);
}
