import { randomUUID } from 'node:crypto';
import type { FeedCache } from '../cache/cache.ts';
import { databaseName } from '../cache/redis/epoch.ts';
import { openReadiness } from '../fleet/readiness.ts';
import { listenForErasures } from '../live/erasures.ts';
import { type Connection, openHub } from '../live/hub.ts';
import { joinCluster } from '../live/liveness.ts';
import { confirmUnfollows } from '../live/unfollows.ts';
import { FeedctlError } from '../model/errors.ts';
import { REQUEST_LIMITS } from '../resilience/limits.ts';
import { Resources } from '../resilience/resources.ts';
import type { SocialContext } from '../social/context.ts';
import { Passwords } from '../social/passwords.ts';
import { missingUsers } from '../store/users.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { listenError } from '../telemetry/metricsServer.ts';
import { batchCalls } from '../util/batch.ts';
import { openApp } from './app.ts';
import { openAddresses } from './clientAddress.ts';
import { openLimiter, type RequestLimits } from './rateLimits.ts';
import type { GatewayAdmin } from './routes/admin.ts';
import { takeTicket } from './tickets.ts';
import { openTokens, TOKEN_SECONDS } from './tokens.ts';
import { type SocketOptions, serveSockets } from './websockets.ts';

/** Of the time for stopping, what closing the sockets may take: their clients come back one after the other. */
const DRAIN_SHARE = 0.5;
/** Every socket is closed within this time, at a thousand a second or faster. */
const REVOKE_MS = 10_000;
/** A key that was revoked is honoured no longer. */
const READ_KEYS_INTERVAL_MS = 5_000;

/** Of those who open a socket at the same time. */
const USERS_A_LOOK = 1_000;

export interface GatewayOptions {
  readonly host: string;
  readonly port: number;
  readonly sockets?: SocketOptions | undefined;
  /** Those of the mission unless given. */
  readonly limits?: RequestLimits | undefined;
  /** A Redis in which all gateways count requests together. */
  readonly limitsUrl?: string | undefined;
  /** Addresses or networks whose `X-Forwarded-For` is believed. */
  readonly trustedProxies?: readonly string[] | undefined;
  /** An operator wants this process to stop as a signal would stop it. Without it that is refused. */
  readonly onDrain?: (() => void) | undefined;
}

export interface Gateway {
  readonly id: string;
  /** Where it listens, e.g. http://127.0.0.1:8080. */
  readonly url: string;
  readonly sockets: number;
  readonly pushed: number;
  /** Posts come in live, and every open socket has what came before. */
  readonly live: boolean;
  /** Its open sockets, or those of one user. */
  connections(userId?: number): Iterable<Connection>;
  /** Takes no more sockets, and closes those that are open over half of that time; then everything else. */
  stop(deadlineMs: number): Promise<void>;
}

/** HTTP and WebSockets on one port. Throws PORT_TAKEN or CONFIG_INVALID. */
export async function startGateway(
  context: SocialContext & { cache: FeedCache; metrics?: Metrics | undefined },
  options: GatewayOptions,
): Promise<Gateway> {
  const { db, log, metrics } = context;
  const { limits = REQUEST_LIMITS, limitsUrl } = options;
  const resources = new Resources();
  let deadline = 5_000;
  try {
    const addressOf = openAddresses(options.trustedProxies ?? []);
    const tokens = await openTokens(db);
    const refreshing = setInterval(() => void tokens.refresh().catch(() => {}), READ_KEYS_INTERVAL_MS);
    resources.add('token keys', () => clearInterval(refreshing));
    const limiter = openLimiter(
      limits,
      limitsUrl ? { url: limitsUrl, name: await databaseName(db) } : undefined,
      metrics,
    );
    resources.add('limits', () => limiter.close());
    const hub = await openHub({ ...context, gatewayId: randomUUID() });
    resources.add('live queue', () => hub.stop(deadline));
    tokens.onRevoked = () => {
      log.warn({ sockets: hub.sockets }, 'a key was revoked: every socket has to come back with its token');
      void hub.drain(REVOKE_MS);
    };
    let isLive = () => false;
    const readiness = openReadiness({ db });
    resources.add('readiness', () => readiness.close());
    const checkReady = async () => {
      if (!isLive()) throw new FeedctlError('NOT_LIVE', 'live updates are lost, or being caught up with');
      await readiness.check();
    };
    const passwords = new Passwords();
    const admin: GatewayAdmin = {
      get id() {
        return hub.gatewayId;
      },
      get sockets() {
        return hub.sockets;
      },
      connections: (userId) => hub.connections(userId),
      drain: options.onDrain,
    };
    const app = await openApp({ ...context, tokens, limiter, passwords, addressOf, checkReady, admin });
    // Takes no more connections; what is being answered has until then.
    const closeApp = async (budgetMs: number) => {
      const late = setTimeout(() => app.server.closeAllConnections(), budgetMs);
      await app.close();
      clearTimeout(late);
    };
    resources.add('HTTP server', () => closeApp(0));
    const exists = batchCalls(USERS_A_LOOK, async (ids: readonly number[]) => {
      const missing = await db.retry(() => missingUsers(db, [...new Set(ids)]));
      return ids.map((id) => !missing.includes(id));
    });
    const authenticate = async (query: URLSearchParams, ip: string) => {
      const stranger = { ip, userId: undefined, writes: false };
      const ticket = query.get('ticket');
      if (ticket !== null) {
        // Nobody makes the database look for tickets that were made up.
        await limiter.admit(stranger);
        return { userId: await takeTicket(db, ticket), until: Date.now() + TOKEN_SECONDS * 1_000 };
      }
      const token = await tokens.checkOnce(query.get('token') ?? '').catch(async (error) => {
        await limiter.admit(stranger);
        throw error;
      });
      // A socket costs more than a request: it is announced, and may have its feed read.
      await limiter.admit({ ...stranger, userId: token.userId });
      // A token outlives its user, whose sockets were closed for good.
      if (!(await exists('', token.userId)))
        throw new FeedctlError('INVALID_TOKEN', `there is no user ${token.userId} any more`);
      return token;
    };
    const sockets = serveSockets(app.server, { hub, authenticate, addressOf, log, metrics }, options.sockets);
    resources.add('sockets', () => sockets.stop());
    let url: string;
    try {
      url = await app.listen({ host: options.host, port: options.port });
    } catch (error) {
      throw listenError(error, options);
    }
    const liveness = await joinCluster({ db, log, url }, hub);
    resources.add('registration', () => liveness.stop());
    isLive = () => liveness.caughtUp;
    const confirming = await confirmUnfollows({ db, log }, hub);
    resources.add('unfollows', () => confirming.close());
    const hearing = await listenForErasures(db, hub, context.cache, context.stats);
    resources.add('erasures', () => hearing.close());
    const unwatch = metrics && [
      metrics.watch('feedctl_gateway_sockets', () => hub.sockets),
      metrics.watch('feedctl_gateway_pushed_total', () => hub.pushed),
      metrics.watch('feedctl_gateway_buffered_bytes', () => hub.bufferedBytes),
      metrics.watch('feedctl_gateway_live', () => (liveness.caughtUp ? 1 : 0)),
    ];
    resources.add('metrics', () => {
      for (const stop of unwatch ?? []) stop();
    });
    resources.add('open sockets', async () => {
      isLive = () => false;
      const closed = closeApp(deadline * DRAIN_SHARE);
      await sockets.drain(deadline * DRAIN_SHARE);
      await sockets.stop();
      await closed;
    });
    return {
      get id() {
        return hub.gatewayId;
      },
      url,
      get sockets() {
        return hub.sockets;
      },
      get pushed() {
        return hub.pushed;
      },
      get live() {
        return isLive();
      },
      connections: (userId) => hub.connections(userId),
      async stop(deadlineMs) {
        deadline = deadlineMs;
        await resources.release(log);
      },
    };
  } catch (error) {
    await resources.release(log);
    throw error;
  }
}
