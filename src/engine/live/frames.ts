import type { Post } from '../model/post.ts';
import { type Cursor, encodeCursor } from './cursor.ts';
import type { DeliveredIds } from './deliveredIds.ts';

const TEXT = 0x81;
const END = '"}';

/**
 * Returns a text frame of RFC 6455, unmasked as servers send it: `head`, the cursor, and the end of
 * the JSON.
 */
function frame(head: Buffer, cursor: string): Buffer {
  const length = head.length + cursor.length + END.length;
  const lengthBytes = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const bytes = Buffer.allocUnsafe(2 + lengthBytes + length);
  bytes[0] = TEXT;
  if (lengthBytes === 0) {
    bytes[1] = length;
  } else if (lengthBytes === 2) {
    bytes[1] = 126;
    bytes.writeUInt16BE(length, 2);
  } else {
    bytes[1] = 127;
    bytes.writeUInt32BE(0, 2);
    bytes.writeUInt32BE(length, 6);
  }
  let at = 2 + lengthBytes;
  at += head.copy(bytes, at);
  at += bytes.write(cursor, at, 'latin1');
  bytes.write(END, at, 'latin1');
  return bytes;
}

const headOf = (messageId: string, payload: object): Buffer =>
  Buffer.from(`{"messageId":"${messageId}","payload":${JSON.stringify(payload)},"cursor":"`);

/**
 * The frames of one message to many sessions. Their common part is encoded once. Sessions in a row
 * with equal cursors share the whole frame.
 */
export class Frames {
  readonly #head: Buffer;
  #low = -1;
  #ids: readonly number[] = [];
  #frame: Buffer | undefined;

  constructor(messageId: 'post' | 'edited' | 'deleted', payload: object) {
    this.#head = headOf(messageId, payload);
  }

  /** Returns the frame with the cursor of a session. A sent post has been added to the session before. */
  for(delivered: DeliveredIds): Buffer {
    const { cursorWatermark: low, ids, from } = delivered;
    if (!this.#frame || low !== this.#low || !this.#sameIds(ids, from)) {
      this.#low = low;
      this.#ids = ids.slice(from);
      this.#frame = frame(this.#head, encodeCursor(low, this.#ids));
    }
    return this.#frame;
  }

  #sameIds(ids: readonly number[], from: number): boolean {
    const known = this.#ids;
    if (ids.length - from !== known.length) return false;
    for (let i = known.length - 1; i >= 0; i -= 1) if (known[i] !== ids[from + i]) return false;
    return true;
  }
}

const payloadOf = (post: Post) => ({
  postId: String(post.id),
  postText: post.body,
  author_user_id: String(post.authorId),
  createdAt: post.createdAt.toISOString(),
});

export const postFrames = (post: Post): Frames => new Frames('post', payloadOf(post));

export const editedFrames = (post: Post): Frames =>
  new Frames('edited', { ...payloadOf(post), version: post.version });

export const deletedFrames = (post: { postId: number; authorId: number }): Frames =>
  new Frames('deleted', { postId: String(post.postId), author_user_id: String(post.authorId) });

/** `recovered` is omitted if the client did not ask to resume. */
export function helloFrame(
  hello: { userId: number; gatewayId: string; recovered?: boolean },
  cursor: Cursor,
): Buffer {
  const payload = { ...hello, userId: String(hello.userId) };
  return frame(headOf('hello', payload), encodeCursor(cursor.low, cursor.ids));
}
