import type { Bus, Consumer, Delivery, Outgoing, QueueName } from '../bus/bus.ts';
import { failDelivery, halves } from '../bus/failDelivery.ts';
import { serialBatches } from '../bus/serialBatches.ts';
import type { FeedChanges } from '../cache/changes.ts';
import { copyOut } from '../database/copy.ts';
import type { Database, Session } from '../database/database.ts';
import type { Sharding } from '../database/sharding.ts';
import { ShardReaders } from '../database/shardReaders.ts';
import { type Notifier, silentNotifier } from '../live/notifier.ts';
import type { PushState } from '../model/celebrity.ts';
import type { EventRef, EventType } from '../model/event.ts';
import type { FeedEntry } from '../model/feed.ts';
import type { LaneName } from '../model/lanes.ts';
import { idsOfEvents } from '../model/messageIds.ts';
import {
  decodeEvents,
  encodeEvents,
  type MessageHeader,
  type PendingCleanup,
  readId,
} from '../model/messages.ts';
import { type AuthorPosts, MAX_POSTS, postsIn } from '../model/rowsMessage.ts';
import { isTransient } from '../resilience/classify.ts';
import type { ProcessStats } from '../stats/process.ts';
import type { Clock } from '../store/databaseClock.ts';
import { alivePostIds } from '../store/posts.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import {
  beginBatch,
  decodeTraces,
  mergedTraces,
  type Traces,
  type Tracing,
  tracesAmong,
} from '../telemetry/tracing.ts';
import { runConcurrently } from '../util/parallel.ts';
import { scheduleCleanup } from './cleaner.ts';
import type { FollowHandlers } from './followHandlers.ts';
import type { Lanes } from './lanes.ts';
import { type PlannedMessage, RowMessages } from './rowMessages.ts';

interface Lane {
  readonly name: LaneName;
  readonly events: QueueName & `events${string}`;
  readonly rows: QueueName & `rows.${string}`;
  /** Maximum event messages in flight; each holds up to 2,000 events. */
  readonly prefetch: number;
}

/**
 * Lanes are planned in parallel: a live post waits neither for an import nor for a post to a
 * million feeds.
 */
const LANES = {
  live: { name: 'live', events: 'events', rows: 'rows.live', prefetch: 16 },
  bulk: { name: 'bulk', events: 'events.bulk', rows: 'rows.bulk', prefetch: 16 },
} as const satisfies Record<string, Lane>;
/** Maximum followers of one query: bounds its memory and the time until its rows are acked. */
const ROWS_A_QUERY = 200_000;
/** A post with more recipients than this goes to the bulk lane. */
const BULK_RECIPIENTS = 20_000;
/** Follows and unfollows handled at the same time, each on its own session. */
const PAIR_CONCURRENCY = 4;
/** Full messages that are published together while rows still arrive. */
const PUBLISH_AT = 8;
/** Queries at the same time, each for another shard. */
const QUERY_CONCURRENCY = { plain: 1, distributed: 4 } as const;

export interface PlannerContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly clock: Clock;
  /** Without lanes nothing is ever paused. */
  readonly lanes?: Lanes | undefined;
  readonly changes: FeedChanges;
  readonly notifier: Notifier;
  readonly relations: FollowHandlers;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
  readonly tracing?: Tracing | undefined;
  readonly stats?: ProcessStats | undefined;
}

const queryConcurrency = (sharding: Sharding): number =>
  QUERY_CONCURRENCY[sharding.distributed ? 'distributed' : 'plain'];

interface Planning extends PlannerContext {
  readonly readers: ShardReaders;
}

interface PlannedPost {
  readonly postId: number;
  readonly authorId: number;
  readonly recipients: number;
}

/** Turns events into messages of feed rows, and keeps `followers` and feeds true to the follows. */
export async function startPlanner(context: PlannerContext): Promise<Consumer> {
  const planning: Planning = { ...context, readers: new ShardReaders(context.db) };
  const lanes = await Promise.all([planLane(planning, LANES.live), planLane(planning, LANES.bulk)]);
  return {
    async stop(deadlineMs) {
      await Promise.all(lanes.map((lane) => lane.stop(deadlineMs)));
      await planning.readers.close();
    },
  };
}

function planLane(context: Planning, lane: Lane): Promise<Consumer> {
  const consume = () =>
    context.bus.consume(
      { queues: [lane.events], prefetch: lane.prefetch },
      serialBatches((batch) => handleBatch(context, lane, batch)),
    );
  return context.lanes ? context.lanes.consume([lane.name], consume) : consume();
}

/**
 * Result of planning. It does not count posts that are forwarded to the bulk lane, which plans
 * them.
 */
interface PlannedPosts {
  readonly pushed: readonly PlannedPost[];
  readonly merged: number;
  /** Posts of authors who have no followers or were erased. */
  readonly others: number;
}

interface Planned {
  readonly delivery: Delivery;
  readonly header: MessageHeader;
  readonly events: readonly EventRef[];
}

/**
 * Common to events that are planned together: the header, and traces to pass on, by event and by
 * post.
 */
interface PlanContext {
  readonly header: MessageHeader;
  readonly traces: { readonly events: Traces; readonly posts: Traces } | undefined;
}

/** Plans messages of one batch together if they are of one import and of one kind. */
async function handleBatch(context: Planning, lane: Lane, deliveries: readonly Delivery[]): Promise<void> {
  const decoded: Planned[] = [];
  for (const delivery of deliveries) {
    try {
      const { events, ...header } = decodeEvents(delivery.body);
      decoded.push({ delivery, events, header });
    } catch (error) {
      failDelivery(delivery, error, context);
    }
  }
  // Events that concern only feeds, not sockets, are planned separately.
  for (const group of Map.groupBy(decoded, ({ header }) => `${header.importId} ${header.feedsOnly}`).values())
    await planTogether(
      group[0]!.header.feedsOnly ? { ...context, notifier: silentNotifier } : context,
      lane,
      group,
    );
}

/** After a permanent failure the group is halved until the faulty message is alone. */
async function planTogether(context: Planning, lane: Lane, group: readonly Planned[]): Promise<void> {
  const { tracing, log } = context;
  const planned = group.flatMap((one) => one.events);
  const from = tracing && mergedTraces(group.map(({ delivery }) => decodeTraces(delivery.traces)));
  const spans =
    from &&
    beginBatch(tracing, { batch: `process ${lane.events}`, each: 'plan post' }, from, {
      'messaging.destination.name': lane.events,
      'messaging.batch.message_count': group.length,
    });
  try {
    const isEarlier = group.some(({ delivery }) => delivery.earlier);
    const events = isEarlier ? await stillTrue(context.db, planned) : planned;
    const committedAt = Math.min(...group.map(({ header }) => header.committedAt));
    const traces = spans && { events: spans.traces, posts: tracesOfPosts(events, spans.traces) };
    const posts = await handleEvents(context, lane, events, {
      header: { ...group[0]!.header, committedAt },
      traces,
    });
    spans?.end({ each: (id) => ({ 'feedctl.event.id': String(id) }) });
    log.debug?.({ queue: lane.events, ...idsOfEvents(events) }, 'events planned');
    for (const { delivery } of group) delivery.ack();
    countPlanned(context, lane, group, posts);
  } catch (error) {
    spans?.end({ error });
    if (group.length === 1 || isTransient(error)) {
      for (const { delivery } of group) failDelivery(delivery, error, context);
    } else {
      for (const half of halves(group)) await planTogether(context, lane, half);
    }
  }
}

/**
 * Returns the events that the database confirms. It may have lost a post, or the deletion of one, that an
 * earlier history had. Other events bring what they are about to its present state.
 */
async function stillTrue(db: Database, events: readonly EventRef[]): Promise<EventRef[]> {
  const about = events.filter(({ type }) => type === 'post.created' || type === 'post.deleted');
  const alive = await alivePostIds(
    db,
    about.map(({ aggregateId, subjectId }) => ({ authorId: aggregateId, postId: subjectId })),
  );
  return events.filter(
    ({ type, subjectId }) =>
      (type !== 'post.created' || alive.has(subjectId)) && (type !== 'post.deleted' || !alive.has(subjectId)),
  );
}

const tracesOfPosts = (events: readonly EventRef[], traces: Traces): Traces =>
  new Map(
    events.flatMap(({ id, subjectId }): [number, string][] => {
      const traceparent = traces.get(id);
      return traceparent ? [[subjectId, traceparent]] : [];
    }),
  );

function countPlanned(
  { metrics, stats }: PlannerContext,
  lane: Lane,
  group: readonly Planned[],
  { pushed, merged, others }: PlannedPosts,
): void {
  stats?.count('planned', pushed.length + merged + others);
  stats?.count('merged', merged);
  for (const { authorId, recipients } of pushed) stats?.recordPlanned(authorId, recipients);
  if (!metrics) return;
  metrics.count('feedctl_bus_handled_total', group.length, { queue: lane.events });
  const counts = new Map<EventType, number>();
  for (const { events } of group)
    for (const { type } of events) counts.set(type, (counts.get(type) ?? 0) + 1);
  for (const [type, count] of counts) metrics.count('feedctl_events_planned_total', count, { type });
}

async function handleEvents(
  context: Planning,
  lane: Lane,
  events: readonly EventRef[],
  plan: PlanContext,
): Promise<PlannedPosts> {
  const created = events.filter((event) => event.type === 'post.created');
  const posts = await planPosts(context, lane, created, plan);
  const cleanups: (PendingCleanup | undefined)[] = [];
  const updated = new Map<number, FeedEntry>();
  for (const event of events) {
    const post = { authorId: event.aggregateId, postId: event.subjectId };
    if (event.type === 'post.deleted') cleanups.push(await context.relations.postDeleted(context, post));
    else if (event.type === 'post.updated') updated.set(post.postId, post);
  }
  // An update changes no feed, because texts are joined at read time. Gateways read the text of the
  // moment they send it, so several updates of one post need one notification.
  if (updated.size > 0)
    await context.relations.postsUpdated(context, [...updated.values()], liveHeader(lane, plan));
  // The order does not matter: each handler brings its pair to the current state under the pair's
  // lock.
  const pairs = events
    .filter(({ type }) => type === 'follow.created' || type === 'follow.deleted')
    .map((event) => ({ followerId: event.aggregateId, followeeId: event.subjectId }));
  cleanups.push(
    ...(await runConcurrently(pairs, PAIR_CONCURRENCY, (pair) =>
      context.relations.followChanged(context, pair),
    )),
  );
  await scheduleCleanup(
    context.bus,
    cleanups.filter((one) => one !== undefined),
  );
  return posts;
}

/** Returns the header of messages to gateways. */
const liveHeader = (lane: Lane, { header }: PlanContext): MessageHeader =>
  lane === LANES.bulk ? { ...header, bulk: true } : header;

async function planPosts(
  context: Planning,
  lane: Lane,
  created: readonly EventRef[],
  plan: PlanContext,
): Promise<PlannedPosts> {
  if (created.length === 0) return { pushed: [], merged: 0, others: 0 };
  const { header } = plan;
  // A process that died after its commit has not notified the cache of the post.
  await context.changes.posted(
    created.map((event) => ({ postId: event.subjectId, authorId: event.aggregateId })),
  );
  const sharding = await context.db.sharding();
  const authors = await authorStates(context.db, sharding, created);
  const pushed: PlannedPost[] = [];
  const forwarded: EventRef[] = [];
  const pulled: PlannedPost[] = [];
  for (const event of created) {
    const author = authors.get(event.aggregateId);
    if (!author) continue; // Erased meanwhile.
    const post = { postId: event.subjectId, authorId: event.aggregateId, recipients: author.followerCount };
    if (author.pushState === 'pull') pulled.push(post);
    else if (lane === LANES.live && post.recipients > BULK_RECIPIENTS) forwarded.push(event);
    // The count is committed with the row in `followers`: a follower who is not counted yet
    // backfills this post.
    else if (post.recipients > 0) pushed.push(post);
  }
  if (forwarded.length > 0)
    await context.bus.publish([
      {
        queue: LANES.bulk.events,
        body: encodeEvents(header, forwarded),
        ...tracesAmong(
          plan.traces?.events,
          forwarded.map(({ id }) => id),
        ),
      },
    ]);
  // Posts of one author are adjacent: the followers are read once, and each gets all those posts in
  // one block.
  const byAuthor = [...Map.groupBy(pushed, (post) => post.authorId).values()].flat();
  const queries = sharding
    .group(byAuthor, (post) => post.authorId)
    .flatMap((group) => [...splitIntoQueries(group)]);
  await fanOut(context, lane.rows, queries, plan);
  await context.notifier.toFollowers(pulled, liveHeader(lane, plan), plan.traces?.posts);
  const others = created.length - pushed.length - pulled.length - forwarded.length;
  return { pushed, merged: pulled.length, others };
}

interface AuthorState {
  readonly pushState: PushState;
  readonly followerCount: number;
}

/**
 * Reads the push states of the authors, before their followers and never with them. Rows of an
 * author who becomes a celebrity in between are useless, and the change of state waits until plans
 * like this one have drained.
 */
async function authorStates(
  db: Database,
  sharding: Sharding,
  created: readonly EventRef[],
): Promise<Map<number, AuthorState>> {
  const ids = [...new Set(created.map((event) => event.aggregateId))];
  const states = await runConcurrently(
    sharding.group(ids, (id) => id),
    queryConcurrency(sharding),
    (group) =>
      db.query<AuthorState & { id: number }>(
        `select id, push_state as "pushState", follower_count as "followerCount"
         from users where id = any($1)`,
        [group],
      ),
  );
  return new Map(states.flatMap(({ rows }) => rows.map((row) => [row.id, row])));
}

function* splitIntoQueries(posts: readonly PlannedPost[]): Generator<PlannedPost[]> {
  let part: PlannedPost[] = [];
  let rows = 0;
  for (const post of posts) {
    if (part.length > 0 && (rows + post.recipients > ROWS_A_QUERY || part.length === MAX_POSTS)) {
      yield part;
      part = [];
      rows = 0;
    }
    part.push(post);
    rows += post.recipients;
  }
  if (part.length > 0) yield part;
}

/**
 * Reads the followers of many posts in few queries, each of one shard, and publishes them as rows
 * by partition. The followers of an author are read once for all of the author's posts.
 */
async function fanOut(
  context: Planning,
  queue: QueueName,
  queries: readonly PlannedPost[][],
  { header, traces }: PlanContext,
): Promise<void> {
  const batches = new RowMessages(await context.bus.partitions(), header);
  // A failover may lose posts that are read below.
  const lineage = context.bus.lineage?.();
  // Reading continues while the previous messages are being confirmed, but not further ahead.
  let last: Promise<void> = Promise.resolve();
  const publish = (messages: PlannedMessage[]): Promise<void> => {
    const before = last;
    last = before.then(() =>
      context.bus.publish(
        messages.map(
          ({ partition, body }): Outgoing => ({
            queue,
            body,
            key: partition,
            lineage,
            ...(traces && tracesAmong(traces.posts, postsIn(body))),
          }),
        ),
      ),
    );
    last.catch(() => {}); // The next call rejects with it.
    return before;
  };
  const concurrency = queryConcurrency(await context.db.sharding());
  await runConcurrently(queries, concurrency, (posts) =>
    context.readers.withSession(posts[0]!.authorId, async (session) => {
      const byAuthor = await alivePosts(session, posts);
      await readFollowers(session, [...byAuthor.keys()], (authorId, high, low) => {
        batches.add(high, low, byAuthor.get(authorId)!);
        return batches.fullCount >= PUBLISH_AT ? publish(batches.takeFull()) : undefined;
      });
    }),
  );
  await publish(batches.takeAll());
  await last;
}

// COPY takes no parameters. The statements contain only ids, which are numbers made by this
// program.
const idArray = (ids: Iterable<number>) => `'{${[...ids].join(',')}}'::bigint[]`;

/** Offsets in a row of two ids as COPY sends it: field count, then each id after its length. */
const TWO_IDS = { first: 6, second: 18, length: 26 };

/**
 * Returns posts that are not deleted, by author. A post whose event arrives late may be deleted,
 * and cleaned up, already: its rows would stay forever. The last condition is redundant, but lets
 * Citus find the one shard.
 */
async function alivePosts(
  session: Session,
  posts: readonly PlannedPost[],
): Promise<Map<number, AuthorPosts>> {
  const byAuthor = new Map<number, { authorId: number; postIds: number[] }>();
  const authors = idArray(posts.map((post) => post.authorId));
  const statement = `
    copy (select p.author_id, p.id
          from unnest(${idArray(posts.map((post) => post.postId))}, ${authors}) wanted(id, author_id)
          join posts p on p.author_id = wanted.author_id and p.id = wanted.id and p.deleted_at is null
          where p.author_id = any(${authors})) to stdout (format binary)`;
  await copyOut(session, statement, (bytes, at) => {
    const authorId = readId(bytes, at + TWO_IDS.first);
    const postId = readId(bytes, at + TWO_IDS.second);
    const known = byAuthor.get(authorId);
    if (known) known.postIds.push(postId);
    else byAuthor.set(authorId, { authorId, postIds: [postId] });
    return undefined;
  });
  return byAuthor;
}

/**
 * Calls `onFollower` with each follower of each author, as the high and the low 32 bits of the id.
 */
async function readFollowers(
  session: Session,
  authors: readonly number[],
  onFollower: (authorId: number, high: number, low: number) => Promise<void> | undefined,
): Promise<void> {
  if (authors.length === 0) return;
  const statement = `
    copy (select followee_id, follower_id from followers where followee_id = any(${idArray(authors)}))
    to stdout (format binary)`;
  await copyOut(session, statement, (bytes, at, length) => {
    if (length !== TWO_IDS.length) throw new Error(`a row of ${length} bytes, expected ${TWO_IDS.length}`);
    const high = bytes.readUInt32BE(at + TWO_IDS.second);
    const low = bytes.readUInt32BE(at + TWO_IDS.second + 4);
    return onFollower(readId(bytes, at + TWO_IDS.first), high, low);
  });
}
