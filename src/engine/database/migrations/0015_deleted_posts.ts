import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * Planners look for deleted posts among those that they plan, which are nearly all of them alive. Where the
 * table has posts already, `migrate` has built the index before, without holding up new ones.
 */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('create index if not exists posts_deleted on posts (author_id, id) where deleted_at is not null');
}
