import { randomBytes } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { openReadiness } from '../../../src/engine/fleet/readiness.ts';
import { problemOf } from '../../../src/engine/gateway/problems.ts';
import { ERRORS, type ErrorCode, FeedctlError } from '../../../src/engine/model/errors.ts';
import { type Log, silentLog } from '../../../src/engine/telemetry/log.ts';
import { testCluster } from '../../support/cluster.ts';
import { served } from './served.ts';

const SECRET = 'postgres://feed_app@db-3.internal:5432/feed: ENOENT /etc/feedctl/ca.pem';

function recordingLog(): { log: Log; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  return { lines, log: { ...silentLog, error: (fields) => void lines.push({ ...fields }) } };
}

test('an answer about a failure of a server or of the program has none of the text of that failure', () => {
  const failures: unknown[] = [
    ...Object.keys(ERRORS).map((code) => new FeedctlError(code as ErrorCode, SECRET)),
    Object.assign(new Error(SECRET), { code: 'ECONNREFUSED' }),
    new AggregateError([new Error(SECRET)], ''),
    SECRET,
  ];
  const told: string[] = [];
  for (const failure of failures) {
    const { log, lines } = recordingLog();
    const { problem } = problemOf(failure, log);
    if (problem.status < 500) told.push(problem.code);
    else {
      // A random id may have such digits.
      for (const word of ['postgres', 'feed_app', 'db-3', '5432', '/etc', 'ENOENT'])
        expect(JSON.stringify({ ...problem, requestId: '' })).not.toContain(word);
      expect(problem.requestId).toMatch(/^[0-9a-f-]{36}$/);
      expect(lines).toEqual([expect.objectContaining({ requestId: problem.requestId, reason: SECRET })]);
    }
  }
  // Messages of these codes are written by the gateway about the request.
  expect(told.sort()).toEqual([
    'GATEWAY_OTHER',
    'IDEMPOTENCY_KEY_REUSED',
    'INVALID_ID',
    'INVALID_TOKEN',
    'NOT_OPERATOR',
    'POST_EMPTY',
    'POST_NOT_FOUND',
    'POST_TOO_LONG',
    'RATE_LIMITED',
    'SELF_FOLLOW',
    'TEXT_INVALID',
    'USAGE',
    'USER_EXISTS',
    'USER_NOT_FOUND',
    'VERSION_CONFLICT',
    'WRONG_PASSWORD',
  ]);
});

test('a gateway that its database refuses names neither its user nor its host to an anonymous client', async () => {
  const cluster = await testCluster();
  const role = `app_${randomBytes(6).toString('hex')}`;
  await cluster.db.query(`create role "${role}" login superuser`);
  const url = cluster.url.replace(/\/\/[^/@]*@/, `//${role}@`);
  const db = new Database(url, { maxSessions: 4 });
  const readiness = openReadiness({ db });
  onTestFinished(async () => {
    await readiness.close();
    await db.close();
    await cluster.db.query(`alter role "${role}" nosuperuser`);
    await cluster.db.query(`drop role "${role}"`);
  });
  const { log, lines } = recordingLog();
  const { ask } = await served({}, { ...cluster, db, readiness, log });
  expect((await ask('GET', '/readyz')).status).toBe(200);
  await cluster.db.query(`alter role "${role}" nologin`);
  await cluster.db.query('select pg_terminate_backend(pid) from pg_stat_activity where usename = $1', [role]);
  await expect.poll(async () => (await ask('GET', '/readyz')).body.code).toBe('DATABASE_REFUSED');
  for (const path of ['/readyz', '/user/get/1', '/user/search?first_name=a', '/post/get/1']) {
    const { status, body } = await ask('GET', path);
    expect(status, path).toBe(503);
    for (const word of [role, url, 'postgres', 'socket'])
      expect(JSON.stringify({ ...body, requestId: '' }), path).not.toContain(word);
    const line = lines.find(({ requestId }) => requestId === body.requestId);
    expect(line?.reason, path).toEqual(expect.any(String));
  }
  expect(lines.some(({ reason }) => String(reason).includes(role))).toBe(true);
});
