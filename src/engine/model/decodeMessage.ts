import type { EventRef } from './event.ts';
import {
  type CleanupMessage,
  decodeCleanup,
  decodeEvents,
  decodeLive,
  invalidMessage,
  KIND,
  type LiveRecord,
  type MessageHeader,
} from './messages.ts';
import { decodeRows, type PostsForUsers } from './rowsMessage.ts';

/** Events on their way to the planner. */
export interface Events {
  readonly kind: 'events';
  readonly header: MessageHeader;
  readonly events: readonly EventRef[];
}

/** Feed rows on their way to the writer. */
export interface Rows {
  readonly kind: 'rows';
  readonly header: MessageHeader;
  readonly rows: readonly PostsForUsers[];
}

/** Posts on their way to the sockets of a gateway. */
export interface Live {
  readonly kind: 'live';
  readonly header: MessageHeader;
  readonly posts: readonly LiveRecord[];
}

/** Rows to remove, on their way to the cleaner. */
export interface Cleanup {
  readonly kind: 'cleanup';
  readonly cleanup: CleanupMessage;
}

export type Message = Events | Rows | Live | Cleanup;

/**
 * Decodes a message of any kind. Throws BUS_MESSAGE_INVALID. The planner, the writer and gateways
 * know the kind of their messages and use its own reader, which copies less.
 */
export function decodeMessage(body: Buffer): Message {
  switch (body[0]) {
    case KIND.EVENTS: {
      const { events, ...header } = decodeEvents(body);
      return { kind: 'events', header, events };
    }
    case KIND.ROWS: {
      const { rows, ...header } = decodeRows(body);
      return { kind: 'rows', header, rows };
    }
    case KIND.LIVE: {
      const { live, ...header } = decodeLive(body);
      return { kind: 'live', header, posts: live };
    }
    case KIND.CLEANUP:
      return { kind: 'cleanup', cleanup: decodeCleanup(body) };
    default:
      throw invalidMessage(body.length === 0 ? 'is empty' : `is of unknown kind ${body[0]}`);
  }
}
