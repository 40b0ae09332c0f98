import { WebSocket } from 'ws';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { urlBelow } from '../util/urlBelow.ts';

export interface PushedPost {
  readonly postId: string;
  readonly postText: string;
  readonly author_user_id: string;
  readonly createdAt: string;
}

/** Another text of a post, which the client may not have got. */
export interface PushedEdit extends PushedPost {
  readonly version: number;
}

export interface FeedFollower {
  /** Position of the client: pass it as `after` to resume there. */
  readonly cursor: string;
  /** True if no post since `after` was missed. */
  readonly recovered: boolean;
  /** Resolves when the socket has been closed, with the reason. */
  readonly closed: Promise<string>;
  close(): void;
}

type Frame = { readonly cursor: string } & (
  | { readonly messageId: 'post'; readonly payload: PushedPost }
  | { readonly messageId: 'edited'; readonly payload: PushedEdit }
  | { readonly messageId: 'hello'; readonly payload: { readonly recovered?: boolean } }
  | { readonly messageId: 'deleted' }
);

const HELLO_TIMEOUT_MS = 10_000;

/**
 * Opens a WebSocket on a gateway as a user and calls `onPost` with each pushed post. Resolves at
 * the hello frame: every later post arrives. `after`: posts since that cursor arrive first.
 * `onEdited` is called with each pushed edit. Throws GATEWAY_UNREACHABLE or INVALID_TOKEN.
 */
export function followFeed(
  gatewayUrl: string,
  token: string,
  onPost: (post: PushedPost) => void,
  { after, onEdited }: { after?: string | undefined; onEdited?: (edit: PushedEdit) => void } = {},
): Promise<FeedFollower> {
  const url = urlBelow(gatewayUrl.replace(/^http/, 'ws'), '/post/feed/posted');
  url.searchParams.set('token', token);
  if (after !== undefined) url.searchParams.set('after', after);
  const socket = new WebSocket(url, { perMessageDeflate: false, handshakeTimeout: HELLO_TIMEOUT_MS });
  return new Promise((resolve, reject) => {
    const unreachable = (why: string) =>
      new FeedctlError('GATEWAY_UNREACHABLE', `no WebSocket at ${gatewayUrl}: ${why}`);
    const closed = new Promise<string>((done) => {
      socket.on('close', (code, reason) => done(`${code} ${reason}`.trim()));
    });
    void closed.then((reason) => reject(unreachable(`closed before its hello frame (${reason})`)));
    socket.on('unexpected-response', (_, response) => {
      socket.terminate();
      if (response.statusCode === 401)
        reject(new FeedctlError('INVALID_TOKEN', 'the gateway refused the token'));
      else reject(unreachable(`HTTP ${response.statusCode}`));
    });
    socket.on('error', (error) => reject(unreachable(messageOf(error))));
    let cursor = '';
    socket.on('message', (data) => {
      const frame = JSON.parse(String(data)) as Frame;
      ({ cursor } = frame);
      if (frame.messageId === 'post') onPost(frame.payload);
      if (frame.messageId === 'edited') onEdited?.(frame.payload);
      if (frame.messageId !== 'hello') return;
      const { recovered = true } = frame.payload;
      resolve({
        get cursor() {
          return cursor;
        },
        recovered,
        closed,
        close: () => socket.close(),
      });
    });
  });
}
