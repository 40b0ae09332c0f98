import { WebSocket } from 'ws';
import { FeedctlError, messageOf } from '../model/errors.ts';

export interface PushedPost {
  readonly postId: string;
  readonly postText: string;
  readonly author_user_id: string;
  readonly createdAt: string;
}

export interface FeedFollower {
  /** Resolves when the socket has been closed, with the reason. */
  readonly closed: Promise<string>;
  close(): void;
}

const HELLO_TIMEOUT_MS = 10_000;

/**
 * Opens a WebSocket on a gateway as a user and hands over each post as it is pushed. Resolves when the gateway
 * has said hello: every post made from then on comes. Throws GATEWAY_UNREACHABLE or INVALID_TOKEN.
 */
export function followFeed(
  gatewayUrl: string,
  token: string,
  onPost: (post: PushedPost) => void,
): Promise<FeedFollower> {
  const url = new URL(
    `/post/feed/posted?token=${encodeURIComponent(token)}`,
    gatewayUrl.replace(/^http/, 'ws'),
  );
  const socket = new WebSocket(url, { perMessageDeflate: false, handshakeTimeout: HELLO_TIMEOUT_MS });
  return new Promise((resolve, reject) => {
    const unreachable = (why: string) =>
      new FeedctlError('GATEWAY_UNREACHABLE', `no WebSocket at ${gatewayUrl}: ${why}`);
    const closed = new Promise<string>((done) => {
      socket.on('close', (code, reason) => done(`${code} ${reason}`.trim()));
    });
    void closed.then((reason) => reject(unreachable(`closed before it said hello (${reason})`)));
    socket.on('unexpected-response', (_, response) => {
      socket.terminate();
      if (response.statusCode === 401)
        reject(new FeedctlError('INVALID_TOKEN', 'the gateway refused the token'));
      else reject(unreachable(`HTTP ${response.statusCode}`));
    });
    socket.on('error', (error) => reject(unreachable(messageOf(error))));
    socket.on('message', (data) => {
      const frame = JSON.parse(String(data)) as { messageId: string; payload: PushedPost };
      if (frame.messageId === 'hello') resolve({ closed, close: () => socket.close() });
      else if (frame.messageId === 'post') onPost(frame.payload);
    });
  });
}
