import type { Config } from '../config/config.ts';
import type { Database } from '../database/database.ts';
import type { Queryable, Session } from '../database/types.ts';
import { counted } from '../model/counted.ts';
import { FeedctlError } from '../model/errors.ts';
import { firstIdAt } from '../model/ids.ts';
import { assumeComplete, forgetMessages } from '../store/completeness.ts';
import { countGateways, countWorkers } from '../store/processes.ts';
import { type Log, silentLog } from '../telemetry/log.ts';
import { splitUrls } from '../util/urlList.ts';

/** Servers that a cluster may use beside its database. */
const COMPONENTS = ['broker', 'cache'] as const;
type Component = (typeof COMPONENTS)[number];

/** A cluster without a broker does not know how far its feeds are complete. */
const OLDEST_MESSAGE_MS = 86_400_000;

/** A process that has its cluster's cache, by another address, has had it for this long. */
const CACHE_KEPT_MS = 60_000;

const VARIABLE = { broker: 'FEEDCTL_BROKER_URL', cache: 'FEEDCTL_CACHE_URL' } as const;

/** `at`: address without credentials. Null: the cluster uses none. undefined: no role has run yet. */
type Place = string | null | undefined;
type Places = Readonly<Record<Component, Place>>;

interface Known extends Places {
  /** The server at that address, as it names itself. undefined: no role has said it. */
  readonly brokerName?: string | undefined;
  readonly production: boolean;
}

interface Difference {
  readonly component: Component;
  readonly used: Place;
  readonly given: Place;
}

/** Returns the servers of a URL as `host:port/path`: without user, password and options. */
export function placeOf(urls: string | undefined): string | null {
  if (urls === undefined) return null;
  // A password may contain a comma, so it goes before the list of hosts is split.
  const servers = splitUrls(urls).map((url) =>
    url.replace(/^\s*[a-z+]+:\/\/([^/?#]*@)?/i, '').replace(/\?.*$/s, ''),
  );
  return servers
    .flatMap((list) => list.split(','))
    .map((one) => one.trim().replace(/\/$/, ''))
    .sort()
    .join(',');
}

/** Reads what the cluster uses, and whether it is in production. */
export async function readComponents(db: Queryable): Promise<Known> {
  type Row = Record<Component, { at?: string; name?: string } | null> & { production: boolean };
  const { rows } = await db.query<Row>('select broker, cache, production from cluster_identity');
  const [row] = rows;
  const of = (value: { at?: string } | null | undefined) => (value === null ? null : value?.at);
  return {
    broker: of(row?.broker),
    ...(row?.broker?.name !== undefined && { brokerName: row.broker.name }),
    cache: of(row?.cache),
    production: row?.production ?? false,
  };
}

const record = (session: Session, given: Known) =>
  session.query('update cluster_identity set broker = $1, cache = $2, production = $3', [
    given.broker && JSON.stringify({ at: given.broker, name: given.brokerName }),
    given.cache && JSON.stringify({ at: given.cache }),
    given.production,
  ]);

/** Says whether every change of this cluster asks for a name, whichever shell it comes from. */
export async function setProduction(db: Queryable, production: boolean): Promise<void> {
  await db.query('update cluster_identity set production = $1', [production]);
}

const placesOf = ({ brokerUrl, cacheUrl }: ComponentsContext['config']): Places => ({
  broker: placeOf(brokerUrl),
  cache: placeOf(cacheUrl),
});

function differences(used: Places, given: Places): Difference[] {
  return COMPONENTS.map((component) => ({
    component,
    used: used[component],
    given: given[component],
  })).filter((one) => one.used !== undefined && one.used !== one.given);
}

export interface ComponentsContext {
  readonly config: Pick<Config, 'brokerUrl' | 'cacheUrl' | 'production'>;
  readonly db: Database;
  readonly lineage: string;
  readonly log?: Log;
  /** Invalidates all that the shared cache holds, in the transaction of the session. */
  readonly raiseEpoch: (session: Session) => Promise<void>;
  /** Returns whether the cache of the configuration is the one that the cluster uses, by another address. */
  readonly isOwnCache: () => Promise<boolean>;
  /** Returns how the broker names itself; undefined before the first connection. */
  readonly brokerName: () => string | undefined;
}

/** What a role finds when it starts: see `joinComponents`. */
export interface JoinedComponents {
  readonly production: boolean;
  /** Throws CLUSTER_DIFFERS if another role has decided on another broker or cache since. */
  checkJoined(session: Queryable): Promise<void>;
}

/**
 * Checks that a role uses the broker and the cache that the cluster uses. The first role of a cluster
 * decides, and so does a role that runs alone: what an earlier cache holds is invalid then. `alone`: no
 * other process can be running. Throws CLUSTER_DIFFERS.
 */
export async function joinComponents(context: ComponentsContext, alone: boolean): Promise<JoinedComponents> {
  const { config, db, log = silentLog } = context;
  return db.transaction(async (session) => {
    // One role at a time decides.
    await session.query('select from cluster_identity for update');
    const known = await readComponents(session);
    const given = placesOf(config);
    const production = known.production || config.production;
    const changed = differences(known, given);
    const others =
      changed.length === 0 || alone ? 0 : (await countWorkers(session)) + (await countGateways(session));
    if (others > 0 && (await isAnother(context, changed))) throw differs(changed, others);
    if (changed.length > 0 && others === 0) {
      for (const { component, ...places } of changed)
        log.warn(places, `the cluster uses another ${component} from now on`);
      await giveUpEarlier(context, session, changed);
    }
    // Of other roles that run, these are the same servers by other addresses.
    const joined = others > 0 ? known : changed.length === 0 ? { ...known, ...given } : given;
    await record(session, { ...joined, production });
    const isOwnCache = lately(context.isOwnCache);
    return { production, checkJoined: (later) => checkJoined({ ...context, isOwnCache }, later, joined) };
  });
}

/** Two processes with different caches take the cache from each other again and again. */
function lately(isOwnCache: () => Promise<boolean>): () => Promise<boolean> {
  let lostAt = Number.NEGATIVE_INFINITY;
  return async () => {
    if (!(await isOwnCache())) lostAt = performance.now();
    return performance.now() - lostAt > CACHE_KEPT_MS;
  };
}

/**
 * Finds roles that started at the same time with different servers: each found no other role, and the last
 * one has decided. The broker that it uses may be this one by another address: a broker has a name. Throws
 * CLUSTER_DIFFERS.
 */
async function checkJoined(
  { config, brokerName, isOwnCache }: ComponentsContext,
  session: Queryable,
  joined: Places,
): Promise<void> {
  const known = await readComponents(session);
  const given = placesOf(config);
  const name = brokerName();
  if (name !== undefined && known.broker === given.broker && known.brokerName !== name)
    await session.query(NAME_BROKER, [given.broker, name]);
  const changed: Difference[] = [];
  for (const difference of differences(known, given)) {
    const { component, used } = difference;
    if (used === joined[component]) continue;
    const isSame =
      component === 'cache' ? await isOwnCache() : name !== undefined && name === known.brokerName;
    if (used === null || !isSame) changed.push(difference);
  }
  if (changed.length > 0) throw differs(changed);
}

/** In: address of the broker, its name. */
const NAME_BROKER = `
  update cluster_identity set broker = broker || jsonb_build_object('name', $2::text)
  where broker ->> 'at' = $1`;

/** Gives up what waits at an earlier broker, or in the database, and what an earlier cache holds. */
async function giveUpEarlier(
  { lineage, raiseEpoch }: ComponentsContext,
  session: Session,
  changed: readonly Difference[],
): Promise<void> {
  if (changed.some(({ component }) => component === 'broker')) {
    await assumeComplete(session, lineage, firstIdAt(Date.now() - OLDEST_MESSAGE_MS));
    await forgetMessages(session);
  }
  await raiseEpoch(session);
}

/** What a command finds: see `findComponents`. */
export interface FoundComponents {
  /** CLUSTER_DIFFERS, if the broker or the cache of this process is not that of the cluster. */
  readonly difference: FeedctlError | undefined;
  readonly production: boolean;
}

/**
 * Compares the servers of a command with those of the cluster. Without the cluster's broker and cache a
 * command would leave work undone.
 */
export async function findComponents(context: ComponentsContext): Promise<FoundComponents> {
  const known = await readComponents(context.db);
  const changed = differences(known, placesOf(context.config));
  const another = changed.length > 0 && (await isAnother(context, changed));
  return { difference: another ? differs(changed) : undefined, production: known.production };
}

/**
 * One server has several addresses: through a forwarded port, for example. The broker says whose it is when
 * a process connects, so only its absence counts here.
 */
async function isAnother(context: ComponentsContext, changed: readonly Difference[]): Promise<boolean> {
  for (const { component, used, given } of changed) {
    if (used === null || given === null) return true;
    if (component === 'cache' && !(await context.isOwnCache())) return true;
  }
  return false;
}

function differs(changed: readonly Difference[], others?: number): FeedctlError {
  const named = (place: Place, component: Component) =>
    place ? `the ${component} ${place}` : `no ${component}`;
  const texts = changed.map(
    ({ component, used, given }) =>
      `the cluster uses ${named(used, component)}, and this process ${named(given, component)}`,
  );
  const variables = changed.map(({ component }) => VARIABLE[component]).join(' and ');
  return new FeedctlError('CLUSTER_DIFFERS', texts.join('; '), {
    suggestions: [
      `Set ${variables} as for the cluster’s roles. A context can hold them: \`feedctl context add\`.`,
      ...(others === undefined
        ? []
        : [
            `To change the cluster itself, first stop its ${counted(others, 'running role')}, ` +
              `then start ${others === 1 ? 'it' : 'them'} again.`,
          ]),
    ],
  });
}
