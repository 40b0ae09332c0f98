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

/** Maximum time for the handshake, and then between two frames up to the hello frame. */
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
  {
    after,
    onEdited,
    timeoutMs = HELLO_TIMEOUT_MS,
  }: { after?: string | undefined; onEdited?: (edit: PushedEdit) => void; timeoutMs?: number } = {},
): Promise<FeedFollower> {
  const url = urlBelow(gatewayUrl.replace(/^http/, 'ws'), '/post/feed/posted');
  url.searchParams.set('token', token);
  if (after !== undefined) url.searchParams.set('after', after);
  const socket = new WebSocket(url, { perMessageDeflate: false, handshakeTimeout: timeoutMs });
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
    // A proxy may lose the hello frame, or a gateway may stop before it.
    const silent = () => {
      socket.terminate();
      reject(unreachable(`no hello frame within ${timeoutMs / 1000} s`));
    };
    let timer: NodeJS.Timeout | undefined;
    const expectFrame = () => {
      clearTimeout(timer);
      timer = setTimeout(silent, timeoutMs);
    };
    socket.once('open', expectFrame);
    void closed.then(() => clearTimeout(timer));
    let greeted = false;
    let cursor = '';
    socket.on('message', (data) => {
      if (!greeted) expectFrame();
      const frame = JSON.parse(String(data)) as Frame;
      ({ cursor } = frame);
      if (frame.messageId === 'post') onPost(frame.payload);
      if (frame.messageId === 'edited') onEdited?.(frame.payload);
      if (frame.messageId !== 'hello') return;
      greeted = true;
      clearTimeout(timer);
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
