import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * Planners look for deleted posts among those that they plan, which are nearly all of them alive. The build
 * reads all posts, and new posts wait for it. On a big table it can be built before, with `concurrently`.
 */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('create index if not exists posts_deleted on posts (author_id, id) where deleted_at is not null');
}
