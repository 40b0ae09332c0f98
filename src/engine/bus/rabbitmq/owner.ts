import type { ChannelModel } from 'amqplib';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import type { Endpoint } from './endpoints.ts';
import { EXCHANGES, type OnChannel, OWNER_QUEUE, ownerQueue } from './queueNames.ts';

const REPLACE_TRIES = 20;

/**
 * Whom a virtual host belongs to:
 *
 *     own       this cluster
 *     other     another cluster, by its id
 *     unmarked  a cluster whose version of feedctl writes no mark
 *     none      no cluster has declared queues
 */
export type Owner = 'own' | 'unmarked' | 'none' | { readonly other: string };

/** Reads the owner of a virtual host. Declares nothing. */
export async function readOwner(onChannel: OnChannel, cluster: string): Promise<Owner> {
  if (await exists(onChannel((channel) => channel.checkQueue(OWNER_QUEUE))))
    return markOwner(onChannel, cluster);
  const used = await exists(onChannel((channel) => channel.checkExchange(EXCHANGES.events)));
  return used ? 'unmarked' : 'none';
}

/** Marks a virtual host for a cluster, unless it has a mark. Of several clusters one does it. */
export async function markOwner(
  onChannel: OnChannel,
  cluster: string,
): Promise<'own' | { readonly other: string }> {
  try {
    await onChannel((channel) => channel.assertQueue(OWNER_QUEUE, ownerQueue(cluster)));
    return 'own';
  } catch (error) {
    // "received 'a' but current is 'b'"; another wording in later versions.
    const [, other] =
      /'x-dead-letter-routing-key'.* but current is (?:the value )?'([^']*)'/.exec(messageOf(error)) ?? [];
    if (other === undefined) throw error;
    return { other };
  }
}

/** Replaces the mark of any cluster. A process of that cluster that checks it in between may put it back. */
export async function replaceOwner(onChannel: OnChannel, cluster: string): Promise<void> {
  for (let tries = REPLACE_TRIES; tries > 0; tries -= 1) {
    await onChannel((channel) => channel.deleteQueue(OWNER_QUEUE));
    if ((await markOwner(onChannel, cluster)) === 'own') return;
  }
}

export function otherCluster(
  { shown, vhost }: Pick<Endpoint, 'shown' | 'vhost'>,
  owner: Exclude<Owner, 'own' | 'none'>,
  cluster: string,
): FeedctlError {
  const whose =
    owner === 'unmarked'
      ? 'has queues that a cluster without an id has declared'
      : `belongs to the cluster ${owner.other}`;
  return new FeedctlError(
    'BROKER_OTHER_CLUSTER',
    `the virtual host ${vhost} of the broker ${shown} ${whose}; this process works for cluster ${cluster}`,
  );
}

/** Returns false for a queue or an exchange that does not exist. */
async function exists(check: Promise<unknown>): Promise<boolean> {
  try {
    await check;
    return true;
  } catch (error) {
    if (/NOT_FOUND/.test(messageOf(error))) return false;
    throw error;
  }
}

/** Runs each piece of work on its own channel: the broker closes the channel of a refused declaration. */
export const onNewChannels =
  (connection: ChannelModel): OnChannel =>
  async (work) => {
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    const result = await work(channel);
    await channel.close();
    return result;
  };
