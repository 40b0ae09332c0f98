import { expect, test } from 'vitest';
import { UNLIMITED } from '../../support/gateways.ts';
import { served } from './served.ts';

const ada = {
  first_name: 'Ada',
  second_name: 'Lovelace',
  birthdate: '1815-12-10',
  biography: 'wrote the first program',
  city: 'London',
  password: 'Analytical Engine',
};
const grace = { ...ada, first_name: 'Grace', second_name: 'Hopper', birthdate: '1906-12-09' };

test('who registers can log in, and act with the token', async () => {
  const { ask } = await served();
  const { status, body } = await ask('POST', '/user/register', { body: grace });
  expect(status).toBe(201);
  expect(body).toEqual({ user_id: expect.stringMatching(/^[0-9]+$/) });
  const { password, ...profile } = grace;
  expect((await ask('GET', `/user/get/${body.user_id}`)).body).toEqual({ id: body.user_id, ...profile });
  const login = await ask('POST', '/login', { body: { id: body.user_id, password } });
  expect(login.status).toBe(200);
  const post = await ask('POST', '/post/create', { token: login.body.token, body: { text: 'hello' } });
  expect(post).toMatchObject({ status: 201, body: { author_user_id: body.user_id } });
});

test('a login says what is wrong: 400 malformed, 404 no such user, 401 another password', async () => {
  const { ask, cluster } = await served();
  const { body } = await ask('POST', '/user/register', { body: grace });
  const login = async (id: unknown, password: unknown) => {
    const answer = await ask('POST', '/login', { body: { id, password } });
    return [answer.status, answer.body.code];
  };
  expect(await login(body.user_id, 'analytical engine')).toEqual([401, 'WRONG_PASSWORD']);
  expect(await login('1', 'x')).toEqual([404, 'USER_NOT_FOUND']);
  expect(await login('x', 'x')).toEqual([400, 'USAGE']);
  expect(await login('0', 'x')).toEqual([400, 'INVALID_ID']);
  expect(await login(Number(body.user_id), 'x')).toEqual([400, 'USAGE']);
  expect(await login(body.user_id, '')).toEqual([400, 'USAGE']);
  const [made] = await cluster.users(1);
  expect(await login(String(made), 'x'), 'nobody knows the password of a user who has none').toEqual([
    401,
    'WRONG_PASSWORD',
  ]);
});

test('an age will do for a birthdate; nothing else is made up', async () => {
  const { ask, cluster } = await served();
  const { birthdate, ...rest } = grace;
  const { body } = await ask('POST', '/user/register', { body: { ...rest, age: 30 } });
  const born = (await ask('GET', `/user/get/${body.user_id}`)).body.birthdate;
  const { rows } = await cluster.db.query<{ age: number }>(
    `select extract(year from age((now() at time zone 'UTC')::date, $1::date))::integer as age`,
    [born],
  );
  expect(rows[0]!.age).toBe(30);
  const none = await ask('POST', '/user/register', { body: rest });
  expect((await ask('GET', `/user/get/${none.body.user_id}`)).body.birthdate).toBe(null);
  for (const wrong of [
    ada,
    { ...grace, age: 3 },
    { ...rest, birthdate: '2999-01-01' },
    { ...rest, birthdate: '1999-02-30' },
    { ...rest, age: '30' },
    { ...rest, age: -1 },
    { ...rest, first_name: '' },
    { ...rest, password: undefined },
  ])
    expect(await ask('POST', '/user/register', { body: wrong }), JSON.stringify(wrong)).toMatchObject({
      status: 400,
      body: { code: 'USAGE' },
    });
  const nul = { ...rest, biography: 'a\0b' };
  expect(await ask('POST', '/user/register', { body: nul })).toMatchObject({
    status: 422,
    body: { code: 'TEXT_INVALID' },
  });
});

test('names are found by how they begin, page by page, through an index', async () => {
  const { ask, cluster } = await served({ limits: UNLIMITED });
  await cluster.db.query(
    `insert into users (id, first_name, second_name)
     select i, case i % 3 when 0 then 'Anna' when 1 then 'Annika' else 'Bo%b' end, 'Person' || i
     from generate_series(1, 3000) i`,
  );
  const search = async (query: string) => {
    const answer = await ask('GET', `/user/search?${query}`);
    // biome-ignore lint/suspicious/noExplicitAny: an array of users
    return { ...answer, ids: answer.status === 200 ? answer.body.map((user: any) => user.id) : [] };
  };
  expect((await search('first_name=Anni&last_name=Person100')).ids).toEqual([
    '100',
    '1000',
    '1003',
    '1006',
    '1009',
  ]);
  expect((await search('last_name=Person2999')).ids).toEqual(['2999']);
  expect((await search('first_name=Bo%25&limit=3')).ids).toEqual(['2', '5', '8']);
  expect((await search('first_name=ann')).ids, 'upper and lower case differ').toEqual([]);
  expect((await search(`first_name=${encodeURIComponent('_nna')}`)).ids).toEqual([]);
  let path: string | undefined = '/user/search?first_name=Anna&limit=300';
  const seen: string[] = [];
  while (path) {
    const page = await ask('GET', path);
    for (const user of page.body) seen.push(user.id);
    path = /<(.*)>; rel="next"/.exec(page.headers.get('link') ?? '')?.[1];
  }
  expect(seen).toEqual(Array.from({ length: 1000 }, (_, i) => String(3 * (i + 1))));
  for (const wrong of [
    '',
    'first_name=',
    'first_name=A&limit=0',
    'first_name=A&limit=1001',
    'first_name=A&limit=',
  ])
    expect((await search(wrong)).status, wrong).toBe(400);
  expect((await search('first_name=%00')).body.code).toBe('TEXT_INVALID');
  await cluster.db.query('analyze users');
  const plan = await cluster.db.query(
    `explain select id from users where second_name <> '' and second_name like 'Person2999%' and id > 0 order by id limit 9`,
  );
  expect(JSON.stringify(plan.rows)).toContain('users_second_name');
});

test('many passwords at once are checked a few at a time, and other requests go on', async () => {
  const { ask } = await served({ limits: UNLIMITED });
  const { body } = await ask('POST', '/user/register', { body: grace });
  const logins = Array.from({ length: 60 }, () =>
    ask('POST', '/login', { body: { id: body.user_id, password: 'wrong' } }),
  );
  const done = Promise.all(logins).then((answers) =>
    answers.map(({ status, headers }) => [status, headers.get('retry-after')]),
  );
  const first = await Promise.race([done, ask('GET', `/user/get/${body.user_id}`)]);
  expect(first).toMatchObject({ status: 200 });
  const statuses = await done;
  expect(new Set(statuses.map(String))).toEqual(new Set(['401,', '503,1']));
  expect(statuses.filter(([status]) => status === 401).length).toBe(34);
});
