import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import type { FeedCache } from '../cache/cache.ts';
import type { Readiness } from '../fleet/readiness.ts';
import { Identity } from '../identity/identity.ts';
import { listenForErasures } from '../live/erasures.ts';
import { type Connection, type Hub, openHub } from '../live/hub.ts';
import { type GatewayLiveness, joinCluster } from '../live/liveness.ts';
import { confirmUnfollows } from '../live/unfollows.ts';
import { FeedctlError } from '../model/errors.ts';
import { REQUEST_LIMITS } from '../resilience/limits.ts';
import { Resources } from '../resilience/resources.ts';
import type { SocialContext } from '../social/context.ts';
import { Passwords } from '../social/passwords.ts';
import type { DatabaseClock } from '../store/databaseClock.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { listenError } from '../telemetry/metricsServer.ts';
import type { ServerUrl } from '../util/serverUrl.ts';
import { everyTick } from '../util/ticks.ts';
import { openApp } from './app.ts';
import { openAuthentication } from './authenticate.ts';
import { openAddresses } from './clientAddress.ts';
import { ClusterView, type OpenSnapshots } from './operator/clusterView.ts';
import { type Limiter, openLimiter, type RequestLimits } from './rateLimits.ts';
import type { App, GatewayAdmin } from './routes/context.ts';
import { openTokens, type Tokens } from './tokens.ts';
import { type Advertised, gatewayUrls } from './urls.ts';
import { type SocketOptions, type Sockets, serveSockets } from './websockets.ts';

/**
 * Share of the stop deadline in which sockets are closed one after the other, so that clients
 * reconnect spread out.
 */
const DRAIN_SHARE = 0.5;
/** Stop deadline of a gateway that fails while it starts. */
const DEFAULT_STOP_MS = 5_000;
/** After a revocation every socket is closed within this time, at least 1,000 a second. */
const REVOKE_MS = 10_000;
/** Maximum time until a revoked key is refused. */
const READ_KEYS_INTERVAL_MS = 5_000;

export type GatewayContext = SocialContext & {
  cache: FeedCache;
  metrics?: Metrics | undefined;
  identity?: Identity | undefined;
  clock: DatabaseClock;
  readiness: Pick<Readiness, 'check'>;
};

export interface GatewayOptions {
  readonly host: string;
  readonly port: number;
  /** What other processes of the cluster reach it by. Default: the address that it listens on. */
  readonly advertised?: Advertised | undefined;
  readonly sockets?: SocketOptions | undefined;
  /** Default: REQUEST_LIMITS, 100 requests a minute of a user and 1,000 of an address. */
  readonly limits?: RequestLimits | undefined;
  /** A Redis in which all gateways count requests together. */
  readonly limitsUrl?: string | ServerUrl | undefined;
  /** Addresses or networks whose `X-Forwarded-For` is trusted. */
  readonly trustedProxies?: readonly string[] | undefined;
  /** Opens the source of the snapshots that operators see. Without it the gateway shows no cluster. */
  readonly openSnapshots?: OpenSnapshots | undefined;
  /** Stops this process as a signal does, for an operator. Without it a drain is refused. */
  readonly onDrain?: (() => void) | undefined;
}

export interface Gateway {
  readonly id: string;
  /** URL it listens on, for this machine, e.g. http://127.0.0.1:8080. */
  readonly url: string;
  /** URL that it has registered, for other processes of the cluster. */
  readonly advertisedUrl: string;
  readonly sockets: number;
  readonly pushed: number;
  /** Live posts arrive, and every open socket has received the earlier ones. */
  readonly caughtUp: boolean;
  /** Throws while it should get no traffic, as its `/readyz` reports. */
  checkReady(): Promise<void>;
  /** Its open sockets, or those of one user. */
  connections(userId?: number): Iterable<Connection>;
  /**
   * Refuses new sockets, closes the open ones over half of the deadline, then releases everything
   * else.
   */
  stop(deadlineMs: number): Promise<void>;
}

/** Serves HTTP and WebSockets on one port. Throws PORT_TAKEN or CONFIG_INVALID. */
export async function startGateway(context: GatewayContext, options: GatewayOptions): Promise<Gateway> {
  const { db, log, metrics, clock } = context;
  const resources = new Resources();
  let stopMs = DEFAULT_STOP_MS;
  try {
    const addressOf = openAddresses(options.trustedProxies ?? []);
    const { tokens, limiter } = await openAdmission(context, options, resources);
    const hub = await openHub({ ...context, gatewayId: randomUUID() });
    resources.add('live queue', () => hub.stop(stopMs));
    tokens.onRevoked = () => {
      log.warn({ sockets: hub.sockets }, 'a key was revoked: sockets are closed and must authenticate again');
      void hub.drain(REVOKE_MS);
    };
    let caughtUp = () => false;
    const checkReady = async () => {
      // Names the server first: without database or broker live updates are lost too.
      await context.readiness.check();
      if (!caughtUp())
        throw new FeedctlError('NOT_LIVE', 'live updates are lost, or sockets are being caught up');
    };
    const clusterView = options.openSnapshots && new ClusterView(options.openSnapshots);
    resources.add('view of the cluster', () => clusterView?.close());
    const app = await openApp({
      ...context,
      tokens,
      limiter,
      addressOf,
      origins: options.sockets?.origins ?? [],
      passwords: new Passwords(),
      admin: adminOf(hub, options.onDrain),
      clusterView,
      checkReady,
    });
    resources.add('HTTP server', () => closeApp(app, 0));
    const authenticate = openAuthentication({ db, tokens, limiter });
    const sockets = serveSockets(
      app.server,
      { hub, authenticate, addressOf, clock, log, metrics },
      options.sockets,
    );
    resources.add('sockets', () => sockets.stop());
    await app.listen({ host: options.host, port: options.port }).catch((error) => {
      throw listenError(error, options);
    });
    const { url, advertisedUrl } = gatewayUrls(app.server.address() as AddressInfo, options.advertised, log);
    const liveness = await joinCluster({ db, log, clock, url: advertisedUrl }, hub);
    resources.add('registration', () => liveness.stop());
    caughtUp = () => liveness.caughtUp;
    const unfollows = await confirmUnfollows({ db, log }, hub);
    resources.add('unfollows', () => unfollows.close());
    const erasures = await listenForErasures(db, hub, tokens, context.cache, context.stats);
    resources.add('erasures', () => erasures.close());
    if (metrics) resources.add('metrics', watchMetrics(metrics, hub, liveness));
    // Released first: not ready, then no more connections, then no more sockets.
    resources.add('open sockets', async () => {
      caughtUp = () => false;
      await drain(app, sockets, stopMs * DRAIN_SHARE);
    });
    return {
      get id() {
        return hub.gatewayId;
      },
      url,
      advertisedUrl,
      get sockets() {
        return hub.sockets;
      },
      get pushed() {
        return hub.pushed;
      },
      get caughtUp() {
        return caughtUp();
      },
      checkReady,
      connections: (userId) => hub.connections(userId),
      async stop(deadlineMs) {
        stopMs = deadlineMs;
        await resources.release(log);
      },
    };
  } catch (error) {
    await resources.release(log);
    throw error;
  }
}

/** Opens the token keys, which are read again every 5 s, and the request limits. */
async function openAdmission(
  { db, log, metrics, identity }: GatewayContext,
  { limits = REQUEST_LIMITS, limitsUrl }: GatewayOptions,
  resources: Resources,
): Promise<{ tokens: Tokens; limiter: Limiter }> {
  const tokens = await openTokens(db);
  const end = everyTick(READ_KEYS_INTERVAL_MS, () => void tokens.refresh().catch(() => {}));
  resources.add('token keys', end);
  const clusterId = async () => (identity ?? (await Identity.open(db, log))).cluster;
  const shared = limitsUrl ? { url: limitsUrl, cluster: await clusterId() } : undefined;
  const limiter = openLimiter(limits, shared, metrics);
  resources.add('limits', () => limiter.close());
  return { tokens, limiter };
}

const adminOf = (hub: Hub, drain: (() => void) | undefined): GatewayAdmin => ({
  get id() {
    return hub.gatewayId;
  },
  get sockets() {
    return hub.sockets;
  },
  connections: (userId) => hub.connections(userId),
  drain,
});

/** Returns a function that stops the watching. */
function watchMetrics(metrics: Metrics, hub: Hub, liveness: GatewayLiveness): () => void {
  const unwatch = [
    metrics.watch('feedctl_gateway_sockets', () => hub.sockets),
    metrics.watch('feedctl_gateway_pushed_total', () => hub.pushed),
    metrics.watch('feedctl_gateway_buffered_bytes', () => hub.bufferedBytes),
    metrics.watch('feedctl_gateway_live', () => (liveness.caughtUp ? 1 : 0)),
  ];
  return () => {
    for (const stop of unwatch) stop();
  };
}

/**
 * Closes the listener, and sockets one after the other over `ms`. Requests in flight may end within
 * `ms`.
 */
async function drain(app: App, sockets: Sockets, ms: number): Promise<void> {
  const closed = closeApp(app, ms);
  await sockets.drain(ms);
  await sockets.stop();
  await closed;
}

/** Accepts no more connections, and cuts requests that are in flight after `ms`. */
async function closeApp(app: App, ms: number): Promise<void> {
  const timer = setTimeout(() => app.server.closeAllConnections(), ms);
  await app.close();
  clearTimeout(timer);
}
