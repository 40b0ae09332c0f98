import type { Channel } from 'amqplib';
import type { Connection } from './connection.ts';

const READY_MS = 5_000;

export interface QueueState {
  readonly ready: number;
  readonly consumers: number;
}

/**
 * Questions and declarations, one after the other. A refused one closes its channel, so each piece of work gets a
 * fresh one when the last has failed. Over a connection that never publishes: no alarm keeps it from answering.
 */
export class AdminChannel {
  readonly #connection: Connection;
  #channel: Channel | undefined;
  #work: Promise<unknown> = Promise.resolve();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Throws what the broker says, explained. */
  run<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
    const result = this.#work
      .catch(() => {})
      .then(async () => {
        const connection = await this.#connection.ready(READY_MS);
        try {
          this.#channel ??= await this.#open(connection.createChannel());
          return await work(this.#channel);
        } catch (error) {
          // A connection that is closed over this says why a moment after the call has failed.
          await new Promise((done) => setImmediate(done));
          throw this.#connection.explain(error);
        }
      });
    this.#work = result;
    return result;
  }

  /** How queues are; those that do not exist are left out. */
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
    channel.on('error', () => {}); // Whoever asked is told.
    channel.on('close', () => {
      if (this.#channel === channel) this.#channel = undefined;
    });
    return channel;
  }
}

/** False for a queue that does not exist; throws any other error. */
function isMissing(error: unknown): boolean {
  if (!/NOT_FOUND/.test((error as Error).message)) throw error;
  return false;
}
