import { expect, test } from 'vitest';
import { databaseError } from '../../../src/engine/database/database.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { failureOf } from '../../../src/engine/resilience/classify.ts';

const named = (name: string, message: string) => Object.assign(new Error(message), { name });
const coded = (code: string | number, message = 'refused') => Object.assign(new Error(message), { code });

test.each([
  ['40P01', 'passing'],
  ['40001', 'passing'],
  ['55P03', 'passing'],
  ['57P01', 'passing'],
  ['57014', 'passing'],
  ['53300', 'passing'],
  ['08006', 'passing'],
  ['25006', 'passing'],
  ['25P03', 'passing'],
  ['22012', 'final'],
  ['23514', 'final'],
  ['42601', 'final'],
  ['23505', 'unknown'],
  ['42P01', 'unknown'],
  ['42501', 'passing'],
  ['28P01', 'passing'],
  ['ECONNREFUSED', 'passing'],
  ['ENOTFOUND', 'passing'],
  ['EMFILE', 'unknown'],
])('SQLSTATE or system error %s: %s', (code, failure) => {
  expect(failureOf(coded(code))).toBe(failure);
  expect(failureOf(databaseError(coded(code), 'postgres://db'))).toBe(failure);
});

// As amqplib 2.3 words and numbers them.
test.each([
  [named('IllegalOperationError', 'Channel closed'), 'passing'],
  [named('IllegalOperationError', 'Connection closing'), 'passing'],
  [new Error('channel closed'), 'passing'],
  [new Error('Channel ended, no reply will be forthcoming'), 'passing'],
  [new Error('message nacked'), 'passing'],
  [new Error('Heartbeat timeout'), 'passing'],
  [new Error('Unexpected close'), 'passing'],
  [
    coded(320, 'Connection closed: 320 (CONNECTION-FORCED) with message "broker forced connection closure"'),
    'passing',
  ],
  [coded(406, 'Channel closed by server: 406 (PRECONDITION-FAILED)'), 'unknown'],
  [coded(404, 'Channel closed by server: 404 (NOT-FOUND)'), 'unknown'],
  [coded(403, 'Channel closed by server: 403 (ACCESS-REFUSED)'), 'unknown'],
  [coded(311, 'Channel closed by server: 311 (CONTENT-TOO-LARGE)'), 'final'],
  [new Error('Handshake terminated by server: 403 (ACCESS-REFUSED)'), 'unknown'],
])('of the broker: %s is %s', (error, failure) => {
  expect(failureOf(error)).toBe(failure);
});

// As ioredis 6 and Redis 7 word them.
test.each([
  [named('ReplyError', 'LOADING Redis is loading the dataset in memory'), 'passing'],
  [named('ReplyError', "READONLY You can't write against a read only replica."), 'passing'],
  [named('ReplyError', 'MOVED 3999 127.0.0.1:6381'), 'passing'],
  [named('ReplyError', "OOM command not allowed when used memory > 'maxmemory'."), 'passing'],
  [named('ReplyError', 'WRONGTYPE Operation against a key holding the wrong kind of value'), 'final'],
  [named('ReplyError', 'NOAUTH Authentication required.'), 'unknown'],
  [named('ReplyError', 'ERR unknown command'), 'unknown'],
  [named('MaxRetriesPerRequestError', 'Reached the max retries per request limit (which is 1)'), 'passing'],
  [new Error('Connection is closed.'), 'passing'],
  [new Error("Stream isn't writeable and enableOfflineQueue options is false"), 'passing'],
  [new Error('Command timed out'), 'passing'],
])('of the cache: %s is %s', (error, failure) => {
  expect(failureOf(error)).toBe(failure);
});

test('of the engine: the row of the code decides, then the cause', () => {
  for (const code of ['DATABASE_UNREACHABLE', 'QUEUE_FULL', 'NODE_NUMBERS_EXHAUSTED'] as const)
    expect(failureOf(new FeedctlError(code, ''))).toBe('passing');
  expect(failureOf(new FeedctlError('BUS_MESSAGE_INVALID', ''))).toBe('final');
  expect(failureOf(new FeedctlError('USER_NOT_FOUND', ''))).toBe('unknown');
  expect(failureOf(new FeedctlError('DATABASE_ERROR', '', { cause: coded('40001') }))).toBe('passing');
  // A code with a row of its own is not overruled by what it happened to be caused by.
  expect(failureOf(new FeedctlError('BUS_MESSAGE_INVALID', '', { cause: coded('ECONNRESET') }))).toBe(
    'final',
  );
});

test('whoever gave up has proved nothing against the work; anything else is unknown', () => {
  expect(failureOf(new DOMException('aborted', 'AbortError'))).toBe('passing');
  expect(failureOf(AbortSignal.timeout(0).reason ?? new DOMException('', 'TimeoutError'))).toBe('passing');
  expect(failureOf(new AggregateError([coded('ECONNREFUSED'), coded('ECONNREFUSED')]))).toBe('passing');
  for (const thrown of [new TypeError('x is undefined'), 'text', undefined, null, 7])
    expect(failureOf(thrown)).toBe('unknown');
});
