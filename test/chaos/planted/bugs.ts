/** A bug that a role has while a test runs. It is planted in the compiled files as they are loaded. */
export interface Bug {
  readonly name: string;
  readonly title: string;
  /** Below `dist/engine`. */
  readonly file: string;
  /** Text of the file, and the text that replaces it wherever it occurs. */
  readonly replace: string;
  readonly by: string;
  /** The fault that brings the bug to light. */
  readonly fault: string;
}

export const BUGS: readonly Bug[] = [
  {
    name: 'ack-before-commit',
    title: 'a worker acks messages before their rows are committed',
    file: 'fanout/writer.js',
    replace: 'lane.add({ delivery, header,',
    by: 'delivery.ack(); lane.add({ delivery: Object.create(delivery, { ack: { value() {} } }), header,',
    fault: 'worker-killed',
  },
  {
    name: 'mandatory-off',
    title: 'messages that no queue takes count as published',
    file: 'bus/rabbitmq/publisher.js',
    replace: 'mandatory: true',
    by: 'mandatory: false',
    fault: 'binding-deleted',
  },
  {
    name: 'drop-head',
    title: 'a full queue drops its oldest messages',
    file: 'bus/rabbitmq/queueNames.js',
    replace: `'x-overflow': 'reject-publish'`,
    by: `'x-overflow': 'drop-head'`,
    fault: 'queue-full',
  },
  {
    name: 'dedupe-removed',
    title: 'a socket gets a post as often as its message comes',
    file: 'live/deliveredIds.js',
    replace: 'has(id) {',
    by: 'has(id) { return false;',
    fault: 'worker-killed',
  },
  {
    name: 'floor-not-raised',
    title: 'a trim removes rows and leaves the floor of the feed',
    file: 'feed/trim/sql.js',
    replace: 'return rowCount ?? 0;\n}',
    by: `await session.query('update users set feed_floor = 0 where id = any($1)', [userIds]);
         return rowCount ?? 0;\n}`,
    fault: 'operators-at-work',
  },
  {
    name: 'unfollow-not-confirmed',
    title: 'an unfollow is acknowledged while gateways still send frames that they checked before',
    file: 'live/unfollows.js',
    replace: 'async waitForGateways(userId) {',
    by: 'async waitForGateways(userId) { return;',
    fault: 'slow-checks',
  },
  {
    name: 'cursor-skips',
    title: 'a client that returns with its cursor misses the posts of two seconds',
    file: 'live/cursor.js',
    replace: 'return { low, ids, ...ahead(newest) };',
    by: 'return { low: newest + 2_000 * IDS_PER_MS, ids: [], ...ahead(newest) };',
    fault: 'gateway-killed',
  },
  {
    name: 'barrier-passes-early',
    title: 'a barrier counts as passed while messages before it are in flight',
    file: 'bus/rabbitmq/barriers.js',
    replace: 'if (position === PASSED)',
    by: 'if (position !== -1)',
    fault: 'operators-at-work',
  },
];
