import type { Channel } from 'amqplib';
import type { Connection } from './connection.ts';

const READY_MS = 5_000;

export interface QueueState {
  readonly ready: number;
  readonly consumers: number;
}

/**
 * Channel for queries and declarations, one at a time. The broker closes the channel of a refused one,
 * so the next piece of work opens a new channel. Its connection never publishes: an alarm of the
 * broker does not block it.
 */
export class AdminChannel {
  readonly #connection: Connection;
  #channel: Channel | undefined;
  #work: Promise<unknown> = Promise.resolve();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Runs `work` after all earlier work. Throws the broker's error as a FeedctlError. */
  run<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
    const result = this.#work
      .catch(() => {})
      .then(async () => {
        const connection = await this.#connection.ready(READY_MS);
        try {
          this.#channel ??= await this.#open(connection.createChannel());
          return await work(this.#channel);
        } catch (error) {
          // The reason for which the broker closes a connection arrives a moment after the error.
          await new Promise((done) => setImmediate(done));
          throw this.#connection.explain(error);
        }
      });
    this.#work = result;
    return result;
  }

  /** Returns the states of the queues that exist. */
  async states(names: readonly string[]): Promise<Map<string, QueueState>> {
    const states = new Map<string, QueueState>();
    const ask = async (channel: Channel, name: string) => {
      const { messageCount, consumerCount } = await channel.checkQueue(name);
      states.set(name, { ready: messageCount, consumers: consumerCount });
    };
    const all = this.run((channel) => Promise.all(names.map((name) => ask(channel, name))));
    if (await all.then(() => true, isMissing)) return states;
    states.clear();
    for (const name of names) {
      try {
        await this.run((channel) => ask(channel, name));
      } catch (error) {
        isMissing(error);
      }
    }
    return states;
  }

  async #open(opening: Promise<Channel>): Promise<Channel> {
    const channel = await opening;
    channel.on('error', () => {}); // The caller gets the error.
    channel.on('close', () => {
      if (this.#channel === channel) this.#channel = undefined;
    });
    return channel;
  }
}

/** Returns false for a queue that does not exist. Throws any other error. */
function isMissing(error: unknown): boolean {
  if (!/NOT_FOUND/.test((error as Error).message)) throw error;
  return false;
}
