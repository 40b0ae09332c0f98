import { expect, test } from 'vitest';
import { messageWithout } from '../../../src/engine/erasure/messages.ts';
import {
  decodeCleanup,
  decodeEvents,
  decodeLive,
  encodeCleanup,
  encodeEvents,
  encodeLive,
  packIds,
} from '../../../src/engine/model/messages.ts';
import { decodeRows, eachUser, RowsMessage } from '../../../src/engine/model/rowsMessage.ts';

const [ERASED, OTHER, THIRD] = [2 ** 40 + 7, 2 ** 40 + 8, 3];
const HEADER = { importId: 0, committedAt: 1_000, feedsOnly: true } as const;

function rowsMessage(blocks: readonly { authorId: number; postIds: number[]; users: number[] }[]): Buffer {
  const message = new RowsMessage();
  for (const { users, ...posts } of blocks)
    for (const id of users) message.add(Math.floor(id / 2 ** 32), id % 2 ** 32, posts);
  return message.seal(HEADER);
}

test('rows: neither those of the author nor those for the reader', () => {
  const body = rowsMessage([
    { authorId: ERASED, postIds: [1, 2], users: [OTHER, THIRD] },
    { authorId: OTHER, postIds: [3, 4], users: [ERASED, THIRD] },
    { authorId: THIRD, postIds: [5], users: [ERASED] },
  ]);
  const left = messageWithout(body, ERASED)!;
  expect(decodeRows(left).rows).toEqual([{ authorId: OTHER, postIds: [3, 4], users: 1 }]);
  const users: number[] = [];
  eachUser(left, (high, low) => users.push(high * 2 ** 32 + low));
  expect(users).toEqual([THIRD]);
  expect(messageWithout(left, ERASED)).toBe(left);
  expect(
    messageWithout(rowsMessage([{ authorId: ERASED, postIds: [1], users: [3] }]), ERASED),
  ).toBeUndefined();
});

test('events, posts for sockets and cleanups: what concerns the user is gone, the rest stays', () => {
  const created = { id: 1, type: 'post.created', aggregateId: OTHER, subjectId: ERASED } as const;
  const events = encodeEvents(HEADER, [
    created,
    { id: 2, type: 'post.created', aggregateId: ERASED, subjectId: 9 },
    { id: 3, type: 'follow.created', aggregateId: OTHER, subjectId: ERASED },
  ]);
  // A post may have the same number as the user.
  expect(decodeEvents(messageWithout(events, ERASED)!)).toEqual({ ...HEADER, events: [created] });
  const record = { userId: OTHER, authorId: THIRD, postId: 1 };
  const live = encodeLive(HEADER, [record, { ...record, userId: ERASED }, { ...record, authorId: ERASED }]);
  expect(decodeLive(messageWithout(live, ERASED)!)).toEqual({ ...HEADER, live: [record] });
  const pair = { pair: { followerId: OTHER, followeeId: THIRD } };
  const mark = { queues: ['events'], position: 5 };
  const cleanup = encodeCleanup({
    what: [
      pair,
      { pair: { followerId: ERASED, followeeId: THIRD } },
      { post: { authorId: ERASED, postId: 1 } },
    ],
    mark,
    step: 0,
  });
  expect(decodeCleanup(messageWithout(cleanup, ERASED)!)).toEqual({ what: [pair], mark, step: 0 });
});

test('what cannot be read goes where the id is in it', () => {
  const noise = Buffer.from('noise');
  expect(messageWithout(noise, ERASED)).toBe(noise);
  expect(messageWithout(Buffer.concat([noise, packIds([ERASED])]), ERASED)).toBeUndefined();
});
