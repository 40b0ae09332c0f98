import type { MigrationBuilder } from 'node-pg-migrate';

/** Profiles and passwords of users, tickets of WebSockets, and idempotency keys of posts. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql(`
    alter table users
      add column birthdate     date,
      add column biography     text not null default '',
      add column city          text not null default '',
      -- Null: this user cannot log in.
      add column password_hash text;

    -- Prefixes of names, in any locale. Users without names, such as those of a graph, need no entry.
    create index users_first_name on users (first_name text_pattern_ops, second_name text_pattern_ops)
      where first_name <> '';
    create index users_second_name on users (second_name text_pattern_ops) where second_name <> '';

    -- Rows are seconds old at most. A crash that empties the table costs clients one request.
    create unlogged table tickets (
      hash       bytea primary key,
      user_id    bigint not null,
      expires_at timestamptz not null
    );

    -- In the author's shard, so that a key and its post are one transaction.
    create table idempotency_keys (
      author_id  bigint not null,
      key        text not null,
      post_id    bigint not null,
      text_hash  bytea not null,
      created_at timestamptz not null default now(),
      primary key (author_id, key)
    );
    create index idempotency_keys_age on idempotency_keys (created_at);

    -- Converts one key to a list with ids. The first key signed the tokens without an id.
    insert into settings (name, value)
    select 'gateway.tokenKeys', jsonb_build_array(jsonb_build_object('id', '0', 'secret', value))
    from settings where name = 'gateway.tokenKey';
    delete from settings where name = 'gateway.tokenKey';
  `);
}
