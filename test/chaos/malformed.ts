import { randomBytes } from 'node:crypto';
import {
  encodeCleanup,
  encodeEvents,
  encodeLive,
  HEADER_BYTES,
  KIND,
  seal,
} from '../../src/engine/model/messages.ts';
import type { Random } from '../properties/random.ts';

const HEADER = { importId: 0, committedAt: 0 };

const events = (id: number) =>
  encodeEvents(HEADER, [{ type: 'post.created', id: id + 1, aggregateId: id + 2, subjectId: id + 3 }]);
const live = (id: number) => encodeLive(HEADER, [{ userId: id + 1, authorId: id + 2, postId: id + 3 }]);
const cleanup = (id: number) =>
  encodeCleanup({
    what: [{ pair: { followerId: id + 1, followeeId: id + 2 } }],
    mark: { queues: [] },
    step: 0,
  });

/** Returns a whole message of a kind that this queue never has. */
function ofOtherKind(queue: string, id: number): Buffer {
  if (/^feed\.events/.test(queue)) return live(id);
  return /^feed\.cleanup/.test(queue) ? live(id) : cleanup(id);
}

/** Flips one bit, which the checksum finds. */
function flipped(random: Random, message: Buffer): Buffer {
  const copy = Buffer.from(message);
  copy[random.below(copy.length)]! ^= 1 << random.below(8);
  return copy;
}

/** Returns a message whose checksum is right and whose content is not. */
function sealed(id: number): Buffer {
  const text = Buffer.from(JSON.stringify({ id }));
  return seal(Buffer.concat([Buffer.alloc(HEADER_BYTES), text]), KIND.CLEANUP, HEADER, text.length);
}

/** Returns a message that cannot be read in a queue. `id` makes it another one than those before. */
export function malformedBody(random: Random, queue: string, id: number): Buffer {
  const whole = random.pick([events, live, cleanup])(id);
  const kinds: (() => Buffer)[] = [
    () => randomBytes(8 + random.below(200)),
    () => Buffer.from(JSON.stringify({ id })),
    () => flipped(random, whole),
    () => whole.subarray(0, HEADER_BYTES + random.below(whole.length - HEADER_BYTES)),
    () => Buffer.concat([whole, Buffer.from([id & 255])]),
    () => ofOtherKind(queue, id),
    () => sealed(id),
  ];
  return random.pick(kinds)();
}
