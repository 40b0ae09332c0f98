import { afterAll, beforeAll, expect, test } from 'vitest';
import { counts, emptyDatabase, feedctl, json, type Running, sql, start } from '../support/cli.ts';

/** Starts each role in its own process, so that one of them can be stopped. */
let url: string;
let at: { env: Record<string, string> };
let gateway: Running;
let gatewayUrl: string;
let worker: Running;

const startWorker = async () => {
  const role = start(['worker', 'start', '--json'], at);
  await role.printed(/"ready": true/);
  return role;
};

interface Probed {
  ok: boolean;
  totalMs: number | null;
  stuckAt: string | null;
  reason: string | null;
  legs: { leg: string; atMs: number | null; tookMs: number | null }[];
}

/** Runs a probe. A failed probe prints its result too. */
async function failedProbe(...flags: string[]): Promise<Probed> {
  const { stdout, status } = await feedctl(['probe', '--json', ...flags], at);
  expect(status, stdout).toBe(1);
  return JSON.parse(stdout) as Probed;
}

beforeAll(async () => {
  url = await emptyDatabase('cli_probe');
  at = { env: { FEEDCTL_DATABASE_URL: url } };
  await json(['migrate'], at);
  worker = await startWorker();
  gateway = start(['gateway', 'start', '--port', '0', '--json'], at);
  await gateway.printed(/"ready": true[\s\S]*\}\n/);
  ({ gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string });
});
afterAll(() => {
  for (const role of [worker, gateway]) role.child.kill('SIGTERM');
});

test('a probe tells each leg, and leaves nothing but its events', async () => {
  for (const id of ['1', '2']) await json(['user', 'create', '--id', id], at);
  await json(['follow', 'create', '2', '1'], at);
  const { events: _, ...before } = await counts(url);
  const result = await json<Probed & { gatewayUrl: string; postId: number }>(['probe'], at);
  expect(result).toMatchObject({ ok: true, gatewayUrl, stuckAt: null, reason: null, cleanedUp: true });
  const legs = ['created', 'dispatched', 'planned', 'written', 'pushed', 'seen'];
  expect(result.legs.map(({ leg }) => leg)).toEqual(legs);
  for (const leg of result.legs) {
    expect(leg).toMatchObject({ atMs: expect.any(Number), tookMs: expect.any(Number) });
    expect(leg.atMs).toBeLessThanOrEqual(result.totalMs!);
  }
  expect(await counts(url)).toMatchObject(before);
  expect(await sql(url, `select 1 from settings where name like 'probe.%'`)).toEqual([]);
  expect(await json(['feed', 'verify', '--all'], at)).toMatchObject({
    checked: 2,
    mismatched: 0,
    orphans: 0,
  });
});

test('a post that takes longer than asked for is late', async () => {
  expect(await failedProbe('--max-ms', '1')).toMatchObject({
    ok: false,
    totalMs: expect.any(Number),
    stuckAt: null,
    reason: expect.stringContaining('late'),
  });
  const late = await feedctl(['probe', '--max-ms', '1'], at);
  expect(late).toMatchObject({ status: 1, stdout: expect.stringMatching(/^seen {2}.* ms/m) });
});

test('without a worker the post is stuck before it is planned; the next probe erases what was left', async () => {
  worker.child.kill('SIGKILL');
  await worker.ended;
  const result = await failedProbe('--timeout', '1');
  expect(result).toMatchObject({ ok: false, totalMs: null, stuckAt: 'planned', cleanedUp: false });
  expect(result.legs.map(({ atMs }) => atMs !== null)).toEqual([true, true, false, false, false, false]);
  const left = () => sql(url, `select 1 from users where second_name like 'probe%'`);
  expect(await left()).toHaveLength(2);

  worker = await startWorker();
  await json(['probe', '--max-ms', '60000'], at);
  expect(await left(), 'it might still be running').toHaveLength(2);
  await sql(url, `update settings set value = to_jsonb(now() - interval '1 hour') where name like 'probe.%'`);
  await json(['probe', '--max-ms', '60000'], at);
  expect(await left()).toEqual([]);
  expect(await json(['feed', 'verify', '--all'], at)).toMatchObject({
    checked: 2,
    mismatched: 0,
    orphans: 0,
  });
});

test('a gateway that is gone is told, by `gateway list` too', async () => {
  const listed = () => json<{ gateways: object[] }>(['gateway', 'list'], at);
  expect(await listed()).toMatchObject({ gateways: [{ url: gatewayUrl, ready: true }] });
  const text = await feedctl(['gateway', 'list'], at);
  expect(text.stdout).toContain(gatewayUrl);
  gateway.child.kill('SIGKILL');
  await gateway.ended;
  expect(await listed()).toMatchObject({ gateways: [{ url: gatewayUrl, ready: false }] });
  for (const flags of [[], ['--gateway-url', gatewayUrl]]) {
    const probed = await feedctl(['probe', '--json', ...flags], at);
    expect(probed.status).toBe(1);
    expect(JSON.parse(probed.stdout)).toMatchObject({ error: { code: 'GATEWAY_UNREACHABLE' } });
  }
  expect(await sql(url, `select 1 from users where second_name like 'probe%'`)).toEqual([]);
});
