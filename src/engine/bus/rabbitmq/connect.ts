import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { type ChannelModel, connect } from 'amqplib';
import { messageOf } from '../../model/errors.ts';
import type { Endpoint } from './endpoints.ts';

/** Connects to a broker. Throws amqplib's error, or the broker's reason if it refuses the virtual host. */
export async function connectTo(
  endpoint: Endpoint,
  clientProperties: Record<string, string> = {},
): Promise<ChannelModel> {
  try {
    return await connect(endpoint.connect, { ...endpoint.socket, clientProperties });
  } catch (error) {
    if (!/Expected ConnectionOpenOk; got <ConnectionClose/.test(messageOf(error))) throw error;
    const reason = await reasonOfRefusal(endpoint).catch(() => undefined);
    throw reason === undefined ? error : new Error(reason, { cause: error });
  }
}

/** Class and method, the first four bytes of a frame (https://www.rabbitmq.com/docs/specification). */
const METHOD = {
  start: 0x0a000a,
  startOk: 0x0a000b,
  tune: 0x0a001e,
  tuneOk: 0x0a001f,
  open: 0x0a0028,
  close: 0x0a0032,
};
const FRAME_HEAD = 7;

const shortText = (text: string) =>
  Buffer.concat([Buffer.from([Buffer.byteLength(text)]), Buffer.from(text)]);

function frame(method: number, fields: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEAD + 4);
  head[0] = 1; // A method, on channel 0.
  head.writeUInt32BE(4 + fields.length, 3);
  head.writeUInt32BE(method, FRAME_HEAD);
  return Buffer.concat([head, fields, Buffer.from([0xce])]);
}

/**
 * Returns why the broker refuses the virtual host, which amqplib does not report: repeats the
 * handshake of AMQP 0-9-1 up to that answer. undefined: the broker accepts it now.
 */
async function reasonOfRefusal(endpoint: Endpoint): Promise<string | undefined> {
  const { hostname: host, port, username, password, protocol, vhost } = endpoint.connect;
  const answers: Record<number, (fields: Buffer) => Buffer[]> = {
    [METHOD.start]: () => {
      const response = Buffer.from(`\0${username}\0${password}`);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(response.length);
      // No properties; mechanism, response, locale.
      return [
        frame(
          METHOD.startOk,
          Buffer.concat([Buffer.alloc(4), shortText('PLAIN'), length, response, shortText('en_US')]),
        ),
      ];
    },
    [METHOD.tune]: (limits) => [
      frame(METHOD.tuneOk, limits),
      frame(METHOD.open, Buffer.concat([shortText(vhost!), shortText(''), Buffer.alloc(1)])),
    ],
  };
  const socket: Socket =
    protocol === 'amqps'
      ? connectTls({ ...endpoint.socket, host: host!, port: port! })
      : connectTcp({ host: host!, port: port! });
  socket.setTimeout(endpoint.socket.timeout!, () => socket.destroy());
  try {
    socket.write('AMQP\0\0\u0009\u0001');
    let bytes = Buffer.alloc(0);
    for await (const chunk of socket) {
      bytes = Buffer.concat([bytes, chunk as Buffer]);
      while (bytes.length >= FRAME_HEAD && bytes.length >= FRAME_HEAD + bytes.readUInt32BE(3) + 1) {
        const end = FRAME_HEAD + bytes.readUInt32BE(3);
        const method = bytes.readUInt32BE(FRAME_HEAD);
        const fields = bytes.subarray(FRAME_HEAD + 4, end);
        // Two bytes of code, one byte of length, then the text.
        if (method === METHOD.close) return fields.toString('utf8', 3, 3 + fields[2]!);
        const answer = answers[method];
        if (!answer) return undefined;
        for (const one of answer(fields)) socket.write(one);
        bytes = bytes.subarray(end + 1);
      }
    }
    return undefined;
  } finally {
    socket.destroy();
  }
}
