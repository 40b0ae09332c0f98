import { Args } from '@oclif/core';
import { DURABLE_QUEUES, type QueueName } from '../../engine/bus/bus.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { isDurable } from '../../engine/queues/tally.ts';

const unknown = (text: string, more = '') =>
  new FeedctlError('USAGE', `there is no queue ${JSON.stringify(text)}: ${DURABLE_QUEUES.join(', ')}${more}`);

/** One of the queues that are always there, or a gateway's. Throws USAGE. */
export function parseQueue(text: string): QueueName {
  if (isDurable(text)) return text;
  if (/^live\.[\w-]+$/.test(text)) return text as QueueName;
  throw unknown(text, ' or live.<id of a gateway>');
}

export const queueArg = Args.custom<QueueName>({ parse: async (text) => parseQueue(text) });

/** Only the queues that are always there. */
export const durableQueueArg = Args.custom<(typeof DURABLE_QUEUES)[number]>({
  parse: async (text) => {
    if (isDurable(text)) return text;
    throw unknown(text, text.startsWith('live.') ? '; the queue of a gateway goes with the gateway' : '');
  },
});
