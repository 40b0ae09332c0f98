import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/** Bits of the first byte of a frame. */
export const FIN = 0x80;
export const OPCODES = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A frame of RFC 6455 that says what it likes. By default it is final, masked and of its true length. */
export interface RawFrame {
  readonly opcode: number;
  readonly payload?: Buffer;
  readonly fin?: boolean;
  /** Reserved bits, of the byte 0x70. */
  readonly reserved?: number;
  readonly masked?: boolean;
  /** The length that the frame announces. */
  readonly length?: number;
}

export function encodeFrame(frame: RawFrame): Buffer {
  const { opcode, payload = Buffer.alloc(0), fin = true, reserved = 0, masked = true } = frame;
  const { length = payload.length } = frame;
  const mask = masked ? 0x80 : 0;
  const first = (fin ? FIN : 0) | reserved | opcode;
  const head =
    length < 126
      ? Buffer.from([first, mask | length])
      : length < 65_536
        ? Buffer.from([first, mask | 126, length >> 8, length & 255])
        : Buffer.concat([Buffer.from([first, mask | 127]), Buffer.alloc(8)]);
  if (length >= 65_536) head.writeBigUInt64BE(BigInt(length), 2);
  // A key of zeros leaves the payload as it is.
  return Buffer.concat([head, Buffer.alloc(masked ? 4 : 0), payload]);
}

/** A close frame with a code, which may be one that no client may send. */
export const closeFrame = (code: number, reason: string | Buffer = ''): RawFrame => ({
  opcode: OPCODES.close,
  payload: Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason as string)]),
});

/** A client of one socket that does not follow the protocol, where `ws` would refuse to break it. */
export class RawSocket {
  readonly connection: Socket;
  #received = Buffer.alloc(0);

  private constructor(connection: Socket) {
    this.connection = connection;
    connection.on('error', () => {});
  }

  /** Connects, and sends nothing. */
  static async connect(url: string): Promise<RawSocket> {
    const { hostname, port } = new URL(url);
    const connection = connect(Number(port), hostname);
    onTestFinished(() => void connection.destroy());
    const socket = new RawSocket(connection);
    connection.on('data', (bytes) => {
      socket.#received = Buffer.concat([socket.#received, bytes]);
    });
    await once(connection, 'connect');
    return socket;
  }

  /** Connects, and shakes hands. Resolves with the status line. */
  static async open(url: string, query: string, headers = ''): Promise<RawSocket & { status: number }> {
    const socket = await RawSocket.connect(url);
    socket.connection.write(handshake(query, headers));
    while (!socket.#received.includes('\r\n\r\n')) await once(socket.connection, 'data');
    return Object.assign(socket, { status: Number(String(socket.#received).split(' ')[1]) });
  }

  get text(): string {
    return String(this.#received);
  }

  send(...frames: RawFrame[]): void {
    this.connection.write(Buffer.concat(frames.map(encodeFrame)));
  }

  /** Reads nothing from now on. */
  stopReading(): void {
    this.connection.removeAllListeners('data').pause();
  }

  /** Resolves when the gateway has ended the connection, with the code of its close frame. */
  async closed(): Promise<number | undefined> {
    if (!this.connection.closed) await once(this.connection, 'close');
    return this.frames()
      .find(({ opcode }) => opcode === OPCODES.close)
      ?.payload.readUInt16BE();
  }

  /** Frames that the gateway has sent. */
  frames(): { opcode: number; payload: Buffer }[] {
    const all: { opcode: number; payload: Buffer }[] = [];
    for (let at = this.#received.indexOf('\r\n\r\n') + 4; at + 2 <= this.#received.length; ) {
      const short = this.#received[at + 1]! & 0x7f;
      const [head, length] =
        short < 126
          ? [2, short]
          : short === 126
            ? [4, this.#received.readUInt16BE(at + 2)]
            : [10, Number(this.#received.readBigUInt64BE(at + 2))];
      const payload = this.#received.subarray(at + head, at + head + length);
      all.push({ opcode: this.#received[at]! & 0x0f, payload });
      at += head + length;
    }
    return all;
  }
}

/** The request of a handshake, without its last empty line if `headers` does not end it. */
export const handshake = (query: string, headers = ''): string =>
  `GET /post/feed/posted?${query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${headers}\r\n`;
