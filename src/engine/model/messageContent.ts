import { type Cleanup, decodeMessage, type Events, type Live, type Rows } from './decodeMessage.ts';
import { messageOf } from './errors.ts';

/** Content of a message as operators see it. */
export type MessageContent =
  | Omit<Events, 'header'>
  | Omit<Rows, 'header'>
  | Omit<Live, 'header'>
  | Cleanup
  | { readonly kind: 'unreadable'; readonly reason: string; readonly hex: string };

/** First bytes of an unreadable message that are shown. */
const HEX_BYTES = 64;

/** Never throws: an operator may look at a message because it cannot be read. */
export function messageContent(body: Buffer): MessageContent {
  try {
    const message = decodeMessage(body);
    if (message.kind === 'cleanup') return message;
    const { header: _, ...content } = message;
    return content;
  } catch (error) {
    return { kind: 'unreadable', reason: messageOf(error), hex: body.toString('hex', 0, HEX_BYTES) };
  }
}
