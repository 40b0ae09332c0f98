import type { Bus, Consumer, Delivery, Outgoing, QueueName } from '../bus/bus.ts';
import { failDelivery, halves } from '../bus/failDelivery.ts';
import { parallelBatches } from '../bus/serialBatches.ts';
import type { FeedChanges } from '../cache/changes.ts';
import { copyOut } from '../database/copy.ts';
import type { Database, Session } from '../database/database.ts';
import type { Sharding } from '../database/sharding.ts';
import { ShardReaders } from '../database/shardReaders.ts';
import { type Notifier, silentNotifier } from '../live/notifier.ts';
import { EVENT_TYPES, type EventRef } from '../model/event.ts';
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
import { type PackedIds, type PlannedMessage, RowMessages } from './rowMessages.ts';
import { ROWS_QUEUES, type RowsPart } from './rowWriter.ts';

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
  live: { name: 'live', events: 'events', rows: ROWS_QUEUES.live, prefetch: 16 },
  bulk: { name: 'bulk', events: 'events.bulk', rows: ROWS_QUEUES.bulk, prefetch: 16 },
} as const satisfies Record<string, Lane>;
/** Maximum followers of one query: bounds its memory and the time until its rows are acked. */
const ROWS_A_QUERY = 200_000;
/** Rows of the first query of a batch: the writer begins while the planner reads on. */
const ROWS_OF_FIRST_QUERY = 16_384;
/** Followers of one query about an author with more followers: about 15 ms. */
const FOLLOWERS_A_RANGE = 32_768;
/** A post with more recipients than this goes to the bulk lane. */
const BULK_RECIPIENTS = 20_000;
/**
 * Maximum rows of a plan that this process writes itself. A message for so few rows would cost more than the
 * rows. Bigger plans are shared among the workers, and written together with others.
 */
const ROWS_WRITTEN_HERE = 1_024;
/** Follows and unfollows handled at the same time, each on its own session. */
const PAIR_CONCURRENCY = 4;
/** Full messages that are published together while rows still arrive. */
const PUBLISH_AT = 8;
/**
 * Batches of a lane that are planned at the same time: the server reads for one while this process makes
 * messages of the other.
 */
const BATCHES = { batches: 2, messages: 8 } as const;
/** Queries of a batch at the same time, on Citus for several shards. */
const QUERY_CONCURRENCY = { plain: 2, distributed: 4 } as const;

export interface PlannerContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly clock: Clock;
  /** Without lanes nothing is ever paused. */
  readonly lanes?: Lanes | undefined;
  readonly changes: FeedChanges;
  readonly notifier: Notifier;
  readonly relations: FollowHandlers;
  /** Writes the rows of small plans. Without it all rows go through a queue. */
  readonly writeRows?: ((parts: readonly RowsPart[]) => Promise<void>) | undefined;
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

/** An author and those of the planned posts that go to all followers. */
interface Audience extends AuthorPosts {
  readonly postIds: number[];
  /** Number of followers. */
  readonly followers: number;
  /** The posts are merged when feeds are read. */
  readonly pulled: boolean;
}

/** Followers with ids from `from` on and below `to`; undefined: no limit. */
interface FollowerRange {
  readonly from: number | undefined;
  readonly to: number | undefined;
}

/** Reads the followers of these authors, or those of one author in a range. */
interface FollowerQuery {
  readonly audiences: readonly Audience[];
  readonly range?: FollowerRange;
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
      parallelBatches((batch) => handleBatch(context, lane, batch), BATCHES),
    );
  return context.lanes ? context.lanes.consume([lane.name], consume) : consume();
}

/**
 * Result of planning. It does not count posts that are forwarded to the bulk lane, which plans
 * them.
 */
interface PlannedPosts {
  readonly pushed: readonly Audience[];
  readonly merged: number;
  /** Posts of authors who have no followers or were erased. */
  readonly others: number;
}

interface Planned {
  readonly delivery: Delivery;
  readonly header: MessageHeader;
  readonly events: readonly EventRef[];
}

/** Common to events that are planned together. `traces` to pass on: by event and by post. */
interface PlanContext {
  readonly header: MessageHeader;
  readonly traces: { readonly events: Traces; readonly posts: Traces } | undefined;
  /** History of the database in which the events were found to be true: a failover may lose their posts. */
  readonly lineage: string | undefined;
  readonly deliveries: readonly Delivery[];
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
    const lineage = context.bus.lineage?.();
    const isEarlier = group.some(({ delivery }) => delivery.earlier);
    const events = isEarlier ? await stillTrue(context.db, planned) : planned;
    const committedAt = Math.min(...group.map(({ header }) => header.committedAt));
    const traces = spans && { events: spans.traces, posts: tracesOfPosts(events, spans.traces) };
    const posts = await handleEvents(context, lane, events, {
      header: { ...group[0]!.header, committedAt },
      traces,
      lineage,
      deliveries: group.map(({ delivery }) => delivery),
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
  let planned = merged + others;
  for (const { authorId, followers, postIds } of pushed) {
    planned += postIds.length;
    stats?.recordPlanned(authorId, followers * postIds.length);
  }
  stats?.count('planned', planned);
  stats?.count('merged', merged);
  if (!metrics) return;
  metrics.count('feedctl_bus_handled_total', group.length, { queue: lane.events });
  for (const type of EVENT_TYPES) {
    let count = 0;
    for (const { events } of group) for (const event of events) if (event.type === type) count += 1;
    if (count > 0) metrics.count('feedctl_events_planned_total', count, { type });
  }
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
  const audiences = await readAudiences(context.db, sharding, created);
  const forwarded: EventRef[] = [];
  const pulled: FeedEntry[] = [];
  let others = 0;
  for (const event of created) {
    // The count is committed with the row in `followers`: a follower who is not counted yet
    // backfills this post. Authors without followers and erased ones have no audience.
    const audience = audiences.get(event.aggregateId);
    if (!audience) others += 1;
    else if (audience.pulled) pulled.push({ postId: event.subjectId, authorId: event.aggregateId });
    else if (lane === LANES.live && audience.followers > BULK_RECIPIENTS) forwarded.push(event);
    else audience.postIds.push(event.subjectId);
  }
  if (forwarded.length > 0)
    await context.bus.publish([
      {
        queue: LANES.bulk.events,
        body: encodeEvents(header, forwarded),
        lineage: plan.lineage,
        ...tracesAmong(
          plan.traces?.events,
          forwarded.map(({ id }) => id),
        ),
      },
    ]);
  const pushed = [...audiences.values()].filter(({ postIds }) => postIds.length > 0);
  const firstRows = sharding.pick({ postgres: ROWS_OF_FIRST_QUERY, citus: ROWS_A_QUERY });
  const big = pushed.filter(({ followers }) => followers > FOLLOWERS_A_RANGE);
  const small = big.length > 0 ? pushed.filter(({ followers }) => followers <= FOLLOWERS_A_RANGE) : pushed;
  const queries: FollowerQuery[] = sharding
    .group(small, (audience) => audience.authorId)
    .flatMap((group) => [...splitIntoQueries(group, firstRows)].map((audiences) => ({ audiences })));
  for (const audience of big) queries.push(...(await splitFollowers(context, audience)));
  await fanOut(context, lane, queries, plan);
  await context.notifier.toFollowers(pulled, liveHeader(lane, plan), plan.traces?.posts);
  return { pushed, merged: pulled.length, others };
}

/**
 * Returns the authors who are pulled or have followers. They are read before the followers and never with
 * them. Rows of an author who becomes a celebrity in between are useless, and the change of state waits
 * until plans like this one have drained.
 *
 * Three of four posts have an author without followers: leaving them out of the result saves most of its
 * cost.
 */
async function readAudiences(
  db: Database,
  sharding: Sharding,
  created: readonly EventRef[],
): Promise<Map<number, Audience>> {
  const ids = new Set<number>();
  for (const { aggregateId } of created) ids.add(aggregateId);
  const audiences = new Map<number, Audience>();
  await runConcurrently(
    sharding.group([...ids], (id) => id),
    queryConcurrency(sharding),
    (group) => {
      const statement = `
        copy (select id, case when push_state = 'pull' then -1 else follower_count end::bigint
              from users where id = any(${idArray(group)}) and (follower_count > 0 or push_state = 'pull'))
        to stdout (format binary)`;
      const onRow = (bytes: Buffer, at: number): undefined => {
        const authorId = readId(bytes, at + TWO_IDS.first);
        const pulled = bytes.readInt32BE(at + TWO_IDS.second) < 0;
        const followers = pulled ? 0 : readId(bytes, at + TWO_IDS.second);
        audiences.set(authorId, { authorId, postIds: [], followers, pulled });
      };
      return db.withSession((session) => copyOut(session, statement, onRow));
    },
  );
  return audiences;
}

/**
 * Splits authors by the number of rows of their posts, `firstRows` in the first query. Each query has twice
 * as many as the one before, up to the maximum.
 */
function* splitIntoQueries(audiences: readonly Audience[], firstRows: number): Generator<Audience[]> {
  let part: Audience[] = [];
  let rows = 0;
  let maxRows = firstRows;
  for (const audience of audiences) {
    for (const piece of withMaxPosts(audience)) {
      const added = piece.followers * piece.postIds.length;
      if (part.length > 0 && rows + added > maxRows) {
        yield part;
        part = [];
        rows = 0;
        maxRows = Math.min(ROWS_A_QUERY, 2 * maxRows);
      }
      part.push(piece);
      rows += added;
    }
  }
  if (part.length > 0) yield part;
}

/**
 * Splits the followers of one author into ranges of about equal width, which are read side by side. New
 * followers get the posts by their backfill.
 */
async function splitFollowers({ readers }: Planning, audience: Audience): Promise<FollowerQuery[]> {
  const { authorId, followers } = audience;
  const { first, last } = await readers.withSession(authorId, async (session) => {
    const { rows } = await session.query<{ first: number | null; last: number | null }>(
      `select min(follower_id) as first, max(follower_id) as last from followers where followee_id = $1`,
      [authorId],
    );
    return rows[0]!;
  });
  if (first === null || last === null) return [];
  const ranges = Math.min(Math.ceil(followers / FOLLOWERS_A_RANGE), last - first + 1);
  const begin = (nth: number) => first + Math.floor((nth * (last - first + 1)) / ranges);
  return [...withMaxPosts(audience)].flatMap((piece) =>
    Array.from({ length: ranges }, (_, nth) => ({
      audiences: [piece],
      range: {
        from: nth === 0 ? undefined : begin(nth),
        to: nth === ranges - 1 ? undefined : begin(nth + 1),
      },
    })),
  );
}

function* withMaxPosts(audience: Audience): Generator<Audience> {
  if (audience.postIds.length <= MAX_POSTS) return yield audience;
  for (let from = 0; from < audience.postIds.length; from += MAX_POSTS)
    yield { ...audience, postIds: audience.postIds.slice(from, from + MAX_POSTS) };
}

/**
 * Reads the followers of many posts in few queries, each of one shard, and publishes them as rows
 * by partition. The followers of an author are read once for all of the author's posts.
 */
async function fanOut(
  context: Planning,
  lane: Lane,
  queries: readonly FollowerQuery[],
  plan: PlanContext,
): Promise<void> {
  const { header, traces, lineage } = plan;
  const batches = new RowMessages(await context.bus.partitions(), header);
  // Reading continues while the previous messages are being confirmed, but not further ahead.
  let last: Promise<void> = Promise.resolve();
  let publishing = 0;
  let published = false;
  const publish = (messages: PlannedMessage[]): Promise<void> => {
    const before = last;
    publishing += 1;
    published = true;
    last = before
      .then(() =>
        context.bus.publish(
          messages.map(
            ({ partition, body }): Outgoing => ({
              queue: lane.rows,
              body,
              key: partition,
              lineage,
              ...(traces && tracesAmong(traces.posts, postsIn(body))),
            }),
          ),
        ),
      )
      .finally(() => {
        publishing -= 1;
      });
    last.catch(() => {}); // The next call rejects with it.
    return before;
  };
  /** Publishes at once while the writer may have nothing to do, and many messages together otherwise. */
  const publishFull = (): Promise<void> | undefined => {
    if (batches.fullCount === 0) return undefined;
    if (publishing > 0) return batches.fullCount < PUBLISH_AT ? undefined : publish(batches.takeFull());
    void publish(batches.takeFull());
    return undefined;
  };
  const concurrency = queryConcurrency(await context.db.sharding());
  await runConcurrently(queries, concurrency, ({ audiences, range }) =>
    context.readers.withSession(audiences[0]!.authorId, async (session) => {
      const byAuthor = await withoutDeleted(session, audiences);
      await readFollowers(session, [...byAuthor.keys()], range, (authorId, ids) => {
        batches.add(byAuthor.get(authorId)!, ids);
        return publishFull();
      });
    }),
  );
  const rest = batches.takeAll();
  if (!published && isWrittenHere(context, lane, rest)) {
    await writeHere(context, lane, rest, plan);
    return;
  }
  await publish(rest);
  await last;
}

/** A throttled lane writes through its queue, where the rate is kept. */
const isWrittenHere = (
  { writeRows, lanes }: Planning,
  lane: Lane,
  planned: readonly PlannedMessage[],
): boolean =>
  writeRows !== undefined &&
  lane === LANES.live &&
  lanes?.rate(lane.name) === undefined &&
  planned.reduce((sum, { rows }) => sum + rows, 0) <= ROWS_WRITTEN_HERE;

/**
 * Writes the rows of a small plan at once. The events are acked after the rows are committed, so a plan that
 * is interrupted is made again, and barriers of the events wait for its rows.
 */
async function writeHere(
  { writeRows }: Planning,
  lane: Lane,
  planned: readonly PlannedMessage[],
  { header, traces, deliveries }: PlanContext,
): Promise<void> {
  if (planned.length === 0) return;
  await writeRows!(
    planned.map(({ body, rows }): RowsPart => {
      const delivery = {
        queue: lane.rows,
        ...(traces && tracesAmong(traces.posts, postsIn(body))),
        get earlier() {
          return deliveries.some(({ earlier }) => earlier);
        },
      };
      return { header, body, count: rows, delivery };
    }),
  );
}

// COPY takes no parameters. The statements contain only ids, which are numbers made by this
// program.
const idArray = (ids: Iterable<number>) => `'{${[...ids].join(',')}}'::bigint[]`;

/** Offsets in a row of two ids as COPY sends it: field count, then each id after its length. */
const TWO_IDS = { first: 6, second: 18, length: 26 };

/**
 * Returns the posts that are not deleted, by author. A post whose event arrives late may be deleted, and
 * cleaned up, already: its rows would stay forever. A small index has only the deleted posts, so posts that
 * exist cost no lookup.
 */
async function withoutDeleted(
  session: Session,
  audiences: readonly Audience[],
): Promise<Map<number, AuthorPosts>> {
  const byAuthor = new Map<number, AuthorPosts>();
  let [first, last] = [Number.POSITIVE_INFINITY, 0];
  for (const audience of audiences) {
    byAuthor.set(audience.authorId, audience);
    for (const id of audience.postIds) {
      if (id < first) first = id;
      if (id > last) last = id;
    }
  }
  const statement = `
    copy (select author_id, id from posts
          where author_id = any(${idArray(byAuthor.keys())}) and deleted_at is not null
            and id between '${first}'::bigint and '${last}'::bigint) to stdout (format binary)`;
  const deleted = new Set<number>();
  const authors = new Set<number>();
  await copyOut(session, statement, (bytes, at): undefined => {
    authors.add(readId(bytes, at + TWO_IDS.first));
    deleted.add(readId(bytes, at + TWO_IDS.second));
  });
  for (const authorId of authors) {
    const postIds = byAuthor.get(authorId)!.postIds.filter((id) => !deleted.has(id));
    if (postIds.length > 0) byAuthor.set(authorId, { authorId, postIds });
    else byAuthor.delete(authorId);
  }
  return byAuthor;
}

/** Offsets in a row of an id and a one-dimensional array of ids: each element follows its length. */
const ID_AND_IDS = { id: 6, count: 30, elements: 38 };

/**
 * Calls `onFollowers` with the followers of each author, in one array of PostgreSQL's binary format. A row
 * for each follower costs this process three times as much CPU, and takes 1.4 times as long.
 */
async function readFollowers(
  session: Session,
  authors: readonly number[],
  range: FollowerRange | undefined,
  onFollowers: (authorId: number, ids: PackedIds) => Promise<void> | undefined,
): Promise<void> {
  if (authors.length === 0) return;
  const within =
    (range?.from === undefined ? '' : ` and follower_id >= ${range.from}`) +
    (range?.to === undefined ? '' : ` and follower_id < ${range.to}`);
  const statement = `
    copy (select followee_id, array_agg(follower_id) from followers
          where followee_id = any(${idArray(authors)})${within} group by followee_id)
    to stdout (format binary)`;
  await copyOut(session, statement, (bytes, at) =>
    onFollowers(readId(bytes, at + ID_AND_IDS.id), {
      bytes,
      at: at + ID_AND_IDS.elements,
      count: bytes.readUInt32BE(at + ID_AND_IDS.count),
    }),
  );
}
