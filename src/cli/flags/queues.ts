import { Args } from '@oclif/core';
import { DURABLE_QUEUES, type QueueName } from '../../engine/bus/bus.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { isDurable } from '../../engine/queues/tally.ts';

const unknown = (text: string, more = '') =>
  new FeedctlError(
    'USAGE',
    `there is no queue ${JSON.stringify(text)}; the queues are ${DURABLE_QUEUES.join(', ')}${more}`,
  );

/** Returns a durable queue, or the queue of a gateway. Throws USAGE for another name. */
export function parseQueue(text: string): QueueName {
  if (isDurable(text)) return text;
  if (/^live\.[\w-]+$/.test(text)) return text as QueueName;
  throw unknown(text, ' or live.<id of a gateway>');
}

export const queueArg = Args.custom<QueueName>({ parse: async (text) => parseQueue(text) });

/** Accepts durable queues only. */
export const durableQueueArg = Args.custom<(typeof DURABLE_QUEUES)[number]>({
  parse: async (text) => {
    if (isDurable(text)) return text;
    throw unknown(
      text,
      text.startsWith('live.') ? '; the queue of a gateway is deleted with the gateway' : '',
    );
  },
});
