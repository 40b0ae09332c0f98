import type { MigrationBuilder } from 'node-pg-migrate';

/** Users, posts, follows, feeds and the event log. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    create table users (
      id             bigint primary key check (id > 0),
      first_name     text not null default '',
      second_name    text not null default '',
      push_state     text not null default 'push' check (push_state in ('push', 'both', 'pull')),
      follower_count integer not null default 0,
      -- Feed rows are complete above it. At and below it they may be missing.
      feed_floor     bigint not null default 0,
      last_seen_at   timestamptz,
      version        integer not null default 1,
      created_at     timestamptz not null default now()
    );

    create table posts (
      author_id  bigint not null,
      id         bigint not null,
      body       text not null,
      created_at timestamptz not null,
      deleted_at timestamptz,
      version    integer not null default 1,
      primary key (author_id, id)
    );
    -- Finds a post by its id alone. Not unique, because a distributed table cannot enforce that.
    create index posts_id on posts (id);

    -- Follows by follower: the truth.
    create table follows (
      follower_id bigint not null,
      followee_id bigint not null,
      created_at  timestamptz not null default now(),
      primary key (follower_id, followee_id),
      check (follower_id <> followee_id)
    );

    -- Follows by followee: derived from follows by the handler of follow events.
    create table followers (
      followee_id bigint not null,
      follower_id bigint not null,
      primary key (followee_id, follower_id)
    );

    -- Rows arrive in batches of a partition. Half-empty leaves would double the index.
    create table feed_items (
      user_id   bigint not null,
      post_id   bigint not null,
      author_id bigint not null,
      primary key (user_id, post_id)
    );

    -- The outbox and the audit trail. Partitioned by id, which is ordered by time.
    create table events (
      id            bigint not null,
      aggregate_id  bigint not null,
      subject_id    bigint not null,
      type          text not null,
      version       integer not null default 1,
      occurred_at   timestamptz not null,
      data          jsonb not null,
      dispatched_at timestamptz,
      primary key (aggregate_id, id)
    ) partition by range (id);
    create table events_default partition of events default;
    -- Rows arrive in the order of their ids, so a few pages cover any span of time.
    create index events_by_time on events using brin (id) with (pages_per_range = 32, autosummarize = on);
    create index events_undispatched on events (id) where dispatched_at is null;

    -- Pulled authors. A small table, which every read of a feed joins.
    create table celebrities (
      user_id bigint primary key,
      state   text not null check (state in ('both', 'pull'))
    );
  `);
}
