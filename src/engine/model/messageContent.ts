import { messageOf } from './errors.ts';
import { decodeCleanup, decodeEvents, decodeLive, KIND } from './messages.ts';
import { postsOfRows } from './rowsMessage.ts';

/** What a message of the bus is about. */
export type MessageContent =
  | { readonly kind: 'events'; readonly events: ReturnType<typeof decodeEvents>['events'] }
  | { readonly kind: 'rows'; readonly rows: ReturnType<typeof postsOfRows> }
  | { readonly kind: 'live'; readonly posts: ReturnType<typeof decodeLive>['live'] }
  | { readonly kind: 'cleanup'; readonly cleanup: unknown }
  | { readonly kind: 'unreadable'; readonly reason: string; readonly hex: string };

const HEX_BYTES = 64;

/** Never throws: a message that cannot be read may be why somebody looks at it. */
export function messageContent(body: Buffer): MessageContent {
  try {
    switch (body[0]) {
      case KIND.EVENTS:
        return { kind: 'events', events: decodeEvents(body).events };
      case KIND.ROWS:
        return { kind: 'rows', rows: postsOfRows(body) };
      case KIND.LIVE:
        return { kind: 'live', posts: decodeLive(body).live };
      default:
        return { kind: 'cleanup', cleanup: decodeCleanup(body) };
    }
  } catch (error) {
    return { kind: 'unreadable', reason: messageOf(error), hex: body.toString('hex', 0, HEX_BYTES) };
  }
}
