import type { LiveSocket } from '../../src/engine/live/session.ts';

/** A frame of a gateway, as its clients read it. */
export interface Frame {
  readonly messageId: 'hello' | 'post' | 'edited' | 'deleted';
  readonly payload: Readonly<Record<string, unknown>>;
  readonly cursor: string;
}

/** A socket in this process. The frames go through their encoding. */
export function inProcessSocket(onFrame: (frame: Frame) => void): LiveSocket {
  return {
    address: '127.0.0.1',
    bufferedBytes: 0,
    write: (bytes) => onFrame(decodeFrame(bytes)),
    close() {},
    terminate() {},
  };
}

/** A whole, unmasked text frame of RFC 6455. */
export function decodeFrame(bytes: Buffer): Frame {
  const short = bytes[1]!;
  const [at, length] =
    short < 126
      ? [2, short]
      : short === 126
        ? [4, bytes.readUInt16BE(2)]
        : [10, Number(bytes.readBigUInt64BE(2))];
  if (bytes[0] !== 0x81 || bytes.length !== at + length)
    throw new Error(`no text frame of ${bytes.length} bytes: ${bytes.toString('hex', 0, 16)}`);
  return JSON.parse(bytes.toString('utf8', at)) as Frame;
}
