import { openRedisCache } from '../../src/engine/cache/redis/cache.ts';
import type { Database } from '../../src/engine/database/database.ts';
import { silentLog } from '../../src/engine/telemetry/log.ts';
import { currentActor } from './scheduler.ts';

/** The Redis cache, with every command as a step of its actor. */
export async function openSteppedRedis(url: string, db: Database) {
  const cache = await openRedisCache(url, db, silentLog);
  // The first use asks the database several times.
  await cache.begin();
  const { connection, epoch } = cache.state;
  const stepped = <Args extends unknown[], T>(
    label: string | ((...args: Args) => string),
    work: (...args: Args) => Promise<T>,
  ) => {
    return (...args: Args): Promise<T> => {
      const actor = currentActor();
      return actor
        ? actor.step(typeof label === 'string' ? label : label(...args), () => work(...args))
        : work(...args);
    };
  };
  const script = connection.script.bind(connection);
  const steppedScript = stepped((name, ..._) => `redis ${name}`, script);
  // A mark is made by a timer, which outlives the actor that has written.
  connection.script = (name, ...values) =>
    name === 'claim' || name === 'cover' ? script(name, ...values) : steppedScript(name, ...values);
  connection.getMany = stepped('redis MGET', connection.getMany.bind(connection));
  epoch.names = stepped('the server is confirmed', epoch.names.bind(epoch));
  epoch.trusted = stepped('the epoch is confirmed', epoch.trusted.bind(epoch));
  return cache;
}
