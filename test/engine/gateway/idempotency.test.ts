import { beforeEach, describe, expect, test } from 'vitest';
import { deletePost } from '../../../src/engine/social/posts.ts';
import { forgetOldIdempotencyKeys } from '../../../src/engine/store/idempotency.ts';
import { citusDatabase, freshDatabase, testCluster } from '../../support/cluster.ts';
import { findServer } from '../../support/server.ts';
import { type Served, served } from './served.ts';

const citus = await findServer('citus');

describe.each([
  { name: 'PostgreSQL', database: freshDatabase, there: true },
  { name: 'Citus', database: () => citusDatabase(citus!), there: citus !== undefined },
])('Idempotency-Key on $name', ({ database, there }) => {
  let gateways: [Served, Served];
  let users: number[];
  beforeEach(async ({ skip }) => {
    if (!there) skip();
    const cluster = await testCluster(undefined, database());
    gateways = [await served({}, cluster), await served({}, cluster)];
    users = await cluster.users(2);
  });

  const create = async (gateway: 0 | 1, key: string, text: string, user = users[0]!) =>
    gateways[gateway].ask('POST', '/post/create', {
      token: await gateways[gateway].tokenOf(user),
      body: { text },
      headers: { 'idempotency-key': key },
    });
  const count = async (table: string) =>
    (await gateways[0].cluster.db.query<{ n: number }>(`select count(*)::integer as n from ${table}`))
      .rows[0]!.n;

  test('the same key gets the same post from every gateway, however often and at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, i) => create((i % 2) as 0 | 1, 'key-1', 'once')),
    );
    answers.push(await create(1, 'key-1', 'once'));
    for (const { status, body } of answers)
      expect({ status, body }).toEqual({ status: 201, body: answers[0]!.body });
    expect(answers[0]!.body).toMatchObject({ text: 'once', version: 1 });
    expect([await count('posts'), await count('events'), await count('idempotency_keys')]).toEqual([1, 1, 1]);
  });

  test('another text is refused, another key or author is another post', async () => {
    const first = await create(0, 'key', 'a text');
    expect(await create(1, 'key', 'another')).toMatchObject({
      status: 422,
      body: { code: 'IDEMPOTENCY_KEY_REUSED' },
    });
    const others = [await create(1, 'key-2', 'a text'), await create(1, 'key', 'a text', users[1]!)];
    expect(new Set([first, ...others].map(({ body }) => body.id)).size).toBe(3);
    expect(await create(0, 'key', ' ')).toMatchObject({ status: 422, body: { code: 'POST_EMPTY' } });
    expect(await create(0, 'key', 'a text', 77)).toMatchObject({
      status: 404,
      body: { code: 'USER_NOT_FOUND' },
    });
    for (const wrong of ['', 'a b', 'x'.repeat(256)])
      expect((await create(0, wrong, 'a text')).status, wrong).toBe(400);
  });

  test('the answer stays what it was, whatever became of the post; after a day the key is free', async () => {
    const { cluster, ask, tokenOf } = gateways[0];
    const first = await create(0, 'key', 'a text');
    const id = first.body.id;
    await ask('PUT', '/post/update', { token: await tokenOf(users[0]!), body: { id, text: 'changed' } });
    expect((await create(1, 'key', 'a text')).body).toEqual(first.body);
    await deletePost(cluster, Number(id));
    expect((await create(1, 'key', 'a text')).body).toEqual(first.body);
    await cluster.db.query(`update idempotency_keys set created_at = now() - interval '23 hours'`);
    await forgetOldIdempotencyKeys(cluster.db);
    expect((await create(1, 'key', 'a text')).body).toEqual(first.body);
    await cluster.db.query(`update idempotency_keys set created_at = now() - interval '25 hours'`);
    await forgetOldIdempotencyKeys(cluster.db);
    const second = await create(1, 'key', 'a text');
    expect(second.status).toBe(201);
    expect(second.body.id).not.toBe(id);
  });
});
