import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { openNotifier } from '../../../src/engine/live/notifier.ts';
import {
  announce,
  openPresence,
  registerGateway,
  unregisterGateway,
} from '../../../src/engine/live/presence.ts';
import {
  decodeLive,
  EDITED,
  EVERY_FOLLOWER,
  RETRACTED,
  ROW_BYTES,
  writeId,
} from '../../../src/engine/model/messages.ts';
import { testCluster } from '../../support/cluster.ts';

const HEADER = { importId: 0, committedAt: 1 };
const POST = { postId: 1_000, authorId: 5 };

/**
 * A notifier and two gateways. `published`: the queue of each message since the last call, and its
 * recipients.
 */
async function notifying() {
  const { db, bus } = await testCluster();
  const presence = await openPresence(db);
  onTestFinished(() => presence.close());
  const notifier = openNotifier(bus, presence);
  const published = async () => {
    const { rows } = await db.query<{ queue: string; body: Buffer }>(
      'with taken as (delete from bus.messages returning *) select queue, body from taken order by id',
    );
    return rows.map(({ queue, body }) => [queue, ...decodeLive(body).live.map(({ userId }) => userId)]);
  };
  const [first, second] = [randomUUID(), randomUUID()];
  for (const id of [first, second]) await registerGateway(db, { id, url: 'http://gateway' });
  return { db, notifier, published, first, second };
}

function rowsTo(users: readonly number[]): Buffer {
  const rows = Buffer.alloc(users.length * ROW_BYTES);
  for (const [i, user] of users.entries()) {
    writeId(rows, i * ROW_BYTES + 6, user);
    writeId(rows, i * ROW_BYTES + 18, POST.postId);
    writeId(rows, i * ROW_BYTES + 30, POST.authorId);
  }
  return rows;
}

test('nothing is published for who is offline, and once for each gateway that has somebody', async () => {
  const { db, notifier, published, first, second } = await notifying();
  const followers = Array.from({ length: 2_000 }, (_, i) => i + 1);
  await notifier.toRecipients([rowsTo(followers)], HEADER);
  await notifier.toFollowers([POST], HEADER);
  await notifier.toUser(7, [POST], HEADER);
  await notifier.edited([POST], HEADER);
  await notifier.retracted(POST, HEADER);
  expect(await published()).toEqual([]);

  await announce(db, first, { arrived: [7, 9, 5_000], left: [] });
  await announce(db, second, { arrived: [9], left: [] });
  await notifier.toRecipients([rowsTo(followers), rowsTo([3_000])], HEADER);
  expect(await published()).toEqual([
    [`live.${first}`, 7, 9],
    [`live.${second}`, 9],
  ]);
  await notifier.toUser(9, [POST], HEADER);
  expect((await published()).map(([gateway]) => gateway)).toEqual([`live.${first}`, `live.${second}`]);
  await notifier.toFollowers([POST], HEADER);
  await notifier.edited([POST, POST], HEADER);
  await notifier.retracted(POST, HEADER);
  expect(await published()).toEqual([
    [`live.${first}`, EVERY_FOLLOWER],
    [`live.${second}`, EVERY_FOLLOWER],
    [`live.${first}`, EDITED, EDITED],
    [`live.${second}`, EDITED, EDITED],
    [`live.${first}`, RETRACTED],
    [`live.${second}`, RETRACTED],
  ]);

  await announce(db, first, { arrived: [], left: [7, 5_000] });
  await unregisterGateway(db, second);
  await notifier.toRecipients([rowsTo(followers)], HEADER);
  expect(await published()).toEqual([[`live.${first}`, 9]]);
});

test('more users than a notification holds come and go in one statement', async () => {
  const { db, notifier, published, first } = await notifying();
  const users = Array.from({ length: 3_000 }, (_, i) => Number.MAX_SAFE_INTEGER - i);
  await announce(db, first, { arrived: users, left: [] });
  await notifier.toRecipients([rowsTo(users)], HEADER);
  expect((await published())[0]!.length).toBe(users.length + 1);
  await announce(db, first, { arrived: [], left: users });
  await notifier.toRecipients([rowsTo(users)], HEADER);
  expect(await published()).toEqual([]);
});

test('a gateway that is heard of is not declared dead', async () => {
  const { db, first } = await notifying();
  await announce(db, first, { arrived: [1], left: [] });
  expect(await unregisterGateway(db, first, 30)).toBe(false);
  expect((await db.query('select 1 from presence')).rowCount).toBe(1);
  await db.query(`update gateways set heartbeat_at = now() - interval '31 s'`);
  expect(await unregisterGateway(db, first, 30)).toBe(true);
  expect((await db.query('select 1 from presence')).rowCount).toBe(0);
});
