import { expect, test } from 'vitest';
import { databaseError } from '../../../src/engine/database/errors.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { classify } from '../../../src/engine/resilience/classify.ts';

const named = (name: string, message: string) => Object.assign(new Error(message), { name });
const coded = (code: string | number, message = 'refused') => Object.assign(new Error(message), { code });

test.each([
  ['40P01', 'transient'],
  ['40001', 'transient'],
  ['55P03', 'transient'],
  ['57P01', 'transient'],
  ['57014', 'transient'],
  ['53300', 'transient'],
  ['08006', 'transient'],
  ['25006', 'transient'],
  ['25P03', 'transient'],
  ['22012', 'permanent'],
  ['23514', 'permanent'],
  ['42601', 'permanent'],
  ['23505', 'unknown'],
  ['42P01', 'unknown'],
  ['42501', 'transient'],
  ['28P01', 'transient'],
  ['ECONNREFUSED', 'transient'],
  ['ENOTFOUND', 'transient'],
  ['EMFILE', 'unknown'],
])('SQLSTATE or system error %s: %s', (code, failure) => {
  expect(classify(coded(code))).toBe(failure);
  expect(classify(databaseError(coded(code), 'postgres://db'))).toBe(failure);
});

// As amqplib 2.3 words and numbers them.
test.each([
  [named('IllegalOperationError', 'Channel closed'), 'transient'],
  [named('IllegalOperationError', 'Connection closing'), 'transient'],
  [new Error('channel closed'), 'transient'],
  [new Error('Channel ended, no reply will be forthcoming'), 'transient'],
  [new Error('message nacked'), 'transient'],
  [new Error('Heartbeat timeout'), 'transient'],
  [new Error('Unexpected close'), 'transient'],
  [
    coded(320, 'Connection closed: 320 (CONNECTION-FORCED) with message "broker forced connection closure"'),
    'transient',
  ],
  [coded(406, 'Channel closed by server: 406 (PRECONDITION-FAILED)'), 'unknown'],
  [coded(404, 'Channel closed by server: 404 (NOT-FOUND)'), 'unknown'],
  [coded(403, 'Channel closed by server: 403 (ACCESS-REFUSED)'), 'unknown'],
  [coded(311, 'Channel closed by server: 311 (CONTENT-TOO-LARGE)'), 'permanent'],
  [new Error('Handshake terminated by server: 403 (ACCESS-REFUSED)'), 'unknown'],
])('of the broker: %s is %s', (error, failure) => {
  expect(classify(error)).toBe(failure);
});

// As ioredis 6 and Redis 7 word them.
test.each([
  [named('ReplyError', 'LOADING Redis is loading the dataset in memory'), 'transient'],
  [named('ReplyError', "READONLY You can't write against a read only replica."), 'transient'],
  [named('ReplyError', 'MOVED 3999 127.0.0.1:6381'), 'transient'],
  [named('ReplyError', "OOM command not allowed when used memory > 'maxmemory'."), 'transient'],
  [named('ReplyError', 'WRONGTYPE Operation against a key holding the wrong kind of value'), 'permanent'],
  [named('ReplyError', 'NOAUTH Authentication required.'), 'unknown'],
  [named('ReplyError', 'ERR unknown command'), 'unknown'],
  [named('MaxRetriesPerRequestError', 'Reached the max retries per request limit (which is 1)'), 'transient'],
  [new Error('Connection is closed.'), 'transient'],
  [new Error("Stream isn't writeable and enableOfflineQueue options is false"), 'transient'],
  [new Error('Command timed out'), 'transient'],
])('of the cache: %s is %s', (error, failure) => {
  expect(classify(error)).toBe(failure);
});

test('of the engine: the row of the code decides, then the cause', () => {
  for (const code of ['DATABASE_UNREACHABLE', 'QUEUE_FULL', 'NODE_NUMBERS_EXHAUSTED'] as const)
    expect(classify(new FeedctlError(code, ''))).toBe('transient');
  expect(classify(new FeedctlError('BUS_MESSAGE_INVALID', ''))).toBe('permanent');
  expect(classify(new FeedctlError('USER_NOT_FOUND', ''))).toBe('unknown');
  expect(classify(new FeedctlError('DATABASE_ERROR', '', { cause: coded('40001') }))).toBe('transient');
  // A code with a row of its own is not overruled by what it happened to be caused by.
  expect(classify(new FeedctlError('BUS_MESSAGE_INVALID', '', { cause: coded('ECONNRESET') }))).toBe(
    'permanent',
  );
});

test('whoever gave up has proved nothing against the work; anything else is unknown', () => {
  expect(classify(new DOMException('aborted', 'AbortError'))).toBe('transient');
  expect(classify(AbortSignal.timeout(0).reason ?? new DOMException('', 'TimeoutError'))).toBe('transient');
  expect(classify(new AggregateError([coded('ECONNREFUSED'), coded('ECONNREFUSED')]))).toBe('transient');
  for (const thrown of [new TypeError('x is undefined'), 'text', undefined, null, 7])
    expect(classify(thrown)).toBe('unknown');
});
