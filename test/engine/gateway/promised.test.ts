import ajvCompiler from '@fastify/ajv-compiler';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { runConcurrently } from '../../../src/engine/util/parallel.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { send } from './rawRequest.ts';
import { served } from './served.ts';

/** Requests for each operation of the document; FEEDCTL_BODIES=1000 for a thorough run. */
const REQUESTS = Math.min(1_000, Number(process.env.FEEDCTL_BODIES || 40));
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];

interface Schema {
  readonly type: string;
  readonly format?: string;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
}

interface Operation {
  readonly parameters?: readonly { in: string; name: string; required?: boolean; schema: Schema }[];
  readonly requestBody?: { readonly content: { readonly 'application/json': { readonly schema: Schema } } };
  readonly security?: unknown;
}

const compile = ajvCompiler()({}, { customOptions: { coerceTypes: false, strict: false } });

/** Returns values that a schema accepts, with those at its limits. */
function valid(schema: Schema): fc.Arbitrary<unknown> {
  const isValid = compile({ schema } as never) as (value: unknown) => boolean;
  return anyOf(schema).filter((value) => isValid(value));
}

function anyOf(schema: Schema): fc.Arbitrary<unknown> {
  const { type, properties = {}, required = [], minimum, maximum, minLength = 0, maxLength = 255 } = schema;
  if (type === 'object')
    return fc.record(
      Object.fromEntries(Object.entries(properties).map(([name, one]) => [name, valid(one)])),
      { requiredKeys: [...required] },
    );
  if (type === 'integer') return fc.integer({ min: minimum!, max: maximum! });
  if (schema.format === 'date')
    return fc
      .date({ min: new Date('1900-01-01'), max: new Date(), noInvalidDate: true })
      .map((date) => date.toISOString().slice(0, 10));
  const lengths = [minLength, minLength + 1, maxLength - 1, maxLength].filter((length) => length <= 5_000);
  const limits = ['a', '😀', '1', '9', ' '].flatMap((one) => lengths.map((length) => one.repeat(length)));
  return fc
    .oneof(
      { weight: 3, arbitrary: fc.stringMatching(new RegExp(schema.pattern ?? '^[^]*$', 'u')) },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', minLength, maxLength: Math.min(maxLength, 200) }) },
      { weight: 1, arbitrary: fc.constantFrom(...limits, '0', '9007199254740991', '9007199254740992') },
    )
    .filter((text) => text.isWellFormed());
}

/** Requests that an operation promises to take. */
function requests({ parameters = [], requestBody }: Operation) {
  const part = (where: string) =>
    fc.record(
      Object.fromEntries(
        parameters.filter((one) => one.in === where).map(({ name, schema }) => [name, valid(schema)]),
      ),
      {
        requiredKeys: parameters
          .filter((one) => one.in === where && (one.required || where === 'path'))
          .map(({ name }) => name),
      },
    );
  const body = requestBody ? valid(requestBody.content['application/json'].schema) : fc.constant(undefined);
  return fc.record({ path: part('path'), query: part('query'), header: part('header'), body });
}

/** Spells a query with the properties of an object as parameters: style `form`, exploded. */
function queryOf(query: Record<string, unknown>): string {
  const pairs = Object.entries(query).flatMap(([name, value]): [string, unknown][] =>
    typeof value === 'object' ? Object.entries(value!) : [[name, value]],
  );
  const texts = pairs.map(([name, value]): [string, string] => [name, String(value)]);
  return new URLSearchParams(texts).toString();
}

test('no request that the OpenAPI document promises to take is refused as malformed', {
  timeout: 300_000,
}, async () => {
  const { cluster, ask, tokenOf } = await served({ limits: UNLIMITED });
  const [user] = (await cluster.users(1)) as [number];
  const token = await tokenOf(user);
  const { paths } = (await ask('GET', '/openapi.json')).body;
  const seed = Number(process.env.FEEDCTL_SEED || Date.now() % 2 ** 31);
  for (const [pattern, methods] of Object.entries<Record<string, Operation>>(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const inputs = fc.sample(requests(operation), { numRuns: REQUESTS, seed });
      await runConcurrently(inputs, 4, async ({ path, query, header, body }) => {
        const at = pattern.replace(/\{(.*?)\}/g, (_, name) => encodeURIComponent(String(path[name])));
        const headers = header as Record<string, string>;
        const url = `${at}?${queryOf(query)}`;
        const { status, body: answer } = await ask(method.toUpperCase(), url, { token, headers, body });
        const what = `${method} ${url} ${JSON.stringify({ body, answer })} (seed ${seed})`;
        expect(status, what).toBeLessThan(500);
        expect([400, 401, 405, 413, 415], what).not.toContain(status);
        if (status === 422) expect(['SELF_FOLLOW', 'IDEMPOTENCY_KEY_REUSED'], what).toContain(answer.code);
      });
    }
  }
});

test('fields that no document names change nothing: a client chooses neither its id nor its hash', async () => {
  const { cluster, ask, tokenOf } = await served({ limits: UNLIMITED });
  const [user] = (await cluster.users(1)) as [number];
  const person = { first_name: 'a', second_name: 'b', password: 'right' };
  const taken = user + 1;
  const more = { id: taken, passwordHash: 'x', dryRun: true, firstName: 'c', createdAt: '2000-01-01' };
  const { status, body } = await ask('POST', '/user/register', { body: { ...person, ...more } });
  expect(status).toBe(201);
  expect(body.user_id).not.toBe(String(taken));
  expect((await ask('GET', `/user/get/${taken}`)).status).toBe(404);
  expect((await ask('GET', `/user/get/${body.user_id}`)).body).toMatchObject({ first_name: 'a' });
  const login = await ask('POST', '/login', { body: { id: body.user_id, password: 'right' } });
  expect(login.status).toBe(200);
  const token = await tokenOf(user);
  const post = {
    text: 'mine',
    id: '5',
    authorId: taken,
    author_user_id: String(taken),
    createdAt: '2000-01-01',
  };
  const created = await ask('POST', '/post/create', { token, body: post });
  expect(created.status).toBe(201);
  expect(created.body.id).not.toBe('5');
  expect(created.body.author_user_id).toBe(String(user));
});

test('what the document excludes is refused, with the codes that commands print', async () => {
  const { cluster, ask, tokenOf } = await served({ limits: UNLIMITED });
  const [user] = (await cluster.users(1)) as [number];
  const token = await tokenOf(user);
  const codes = async (method: string, path: string, body?: unknown) => {
    const answer = await ask(method, path, { token, body });
    return [answer.status, answer.body.code];
  };
  for (const id of ['0', '0000', '9007199254740992', '9999999999999999'])
    expect(await codes('GET', `/user/get/${id}`), id).toEqual([400, 'INVALID_ID']);
  for (const id of ['x', '-1', '1.5', '10000000000000000', '00000000000000001'])
    expect(await codes('GET', `/user/get/${id}`), id).toEqual([400, 'USAGE']);
  for (const id of ['1', '9007199254740991', '8999999999999999', '9007199254740989', '0000000000000007'])
    expect(await codes('GET', `/user/get/${id}`), id).toEqual([404, 'USER_NOT_FOUND']);
  const post = (text: string) => codes('POST', '/post/create', { text });
  expect(await post('')).toEqual([422, 'POST_EMPTY']);
  expect(await post(' \n\t')).toEqual([422, 'POST_EMPTY']);
  expect(await post('a\0b')).toEqual([422, 'TEXT_INVALID']);
  expect(await post('\0')).toEqual([422, 'TEXT_INVALID']);
  expect(await post('😀'.repeat(5_001))).toEqual([422, 'POST_TOO_LONG']);
  expect((await post('😀'.repeat(5_000)))[0]).toBe(201);
  const person = { first_name: '😀'.repeat(100), second_name: 'b', password: 'c' };
  const register = (more: object) => codes('POST', '/user/register', { ...person, ...more });
  expect((await register({ birthdate: '1900-01-01' }))[0]).toBe(201);
  expect((await register({ age: 0 }))[0]).toBe(201);
  for (const more of [
    { birthdate: '0703-01-01' },
    { birthdate: '1899-12-31' },
    { birthdate: '2099-12-31' },
    { birthdate: '2000-01-01', age: 5 },
    { first_name: 'a'.repeat(101) },
    { first_name: '' },
  ])
    expect(await register(more), JSON.stringify(more)).toEqual([400, 'USAGE']);
  expect(await register({ city: '\0' })).toEqual([422, 'TEXT_INVALID']);
  for (const query of ['', 'first_name=', 'first_name=&last_name='])
    expect(await codes('GET', `/user/search?${query}`), query).toEqual([400, 'USAGE']);
  for (const query of ['first_name=a', 'last_name=a', 'first_name=&last_name=a', 'first_name=a&after=0'])
    expect((await ask('GET', `/user/search?${query}`)).status, query).toBe(200);
});

test('a known path answers another method with 405 and the methods that it takes', async () => {
  const { ask, url } = await served({ limits: UNLIMITED });
  const { paths } = (await ask('GET', '/openapi.json')).body;
  for (const [pattern, operations] of Object.entries<Record<string, Operation>>(paths)) {
    const path = pattern.replace(/\{.*?\}/g, '1');
    const taken = Object.keys(operations).map((method) => method.toUpperCase());
    for (const method of METHODS.filter((one) => !taken.includes(one))) {
      const { status, headers, body } = await ask(method, path);
      expect([status, body.code], `${method} ${path}`).toEqual([405, 'USAGE']);
      const allow = headers.get('allow')!.split(', ');
      expect(
        allow.filter((one) => one !== 'HEAD'),
        `${method} ${path}`,
      ).toEqual(taken.sort());
      expect(allow.includes('HEAD')).toBe(taken.includes('GET'));
    }
  }
  // The body of a request that no route takes is not read.
  for (const [path, status] of [
    ['/login', 405],
    ['/nothing', 404],
  ] as const)
    for (const type of ['application/json', 'text/plain'])
      expect(
        await send(url, { method: 'PATCH', path, headers: { 'content-type': type }, body: '{' }),
        `${path} ${type}`,
      ).toMatchObject({ status });
  for (const path of ['/nothing', '/user', '/user/get', '/user/get/', '/user/get/1/2', '//'])
    expect((await ask('DELETE', path)).status, path).toBe(404);
  expect((await ask('DELETE', '/user/search?first_name=a')).headers.get('allow')).toBe('GET, HEAD');
});
