import { FeedctlError } from '../../model/errors.ts';
import { parseId } from '../../model/ids.ts';
import { checkText } from '../../model/post.ts';
import { birthdateOfAge, checkPassword, registerUser } from '../../social/users.ts';
import { getUser, searchUsers, type User } from '../../store/users.ts';
import type { App, RouteContext } from './context.ts';
import * as schemas from './schemas.ts';

export const userJson = (user: User) => ({
  id: String(user.id),
  first_name: user.firstName,
  second_name: user.secondName,
  birthdate: user.birthdate,
  biography: user.biography,
  city: user.city,
});

export function addUserRoutes(app: App, context: RouteContext): void {
  const { db, tokens, limiter } = context;
  app.post(
    '/user/register',
    {
      schema: {
        summary: 'Register a user',
        body: schemas.Registration,
        response: schemas.answers(
          { 201: schemas.Registered },
          ...schemas.REFUSED,
          ...schemas.BODY_REFUSED,
          422,
        ),
      },
    },
    async (request, reply) => {
      // Each field is named: an `id` that the body has beside them is not the client's to choose.
      const { first_name, second_name, birthdate, age, biography, city, password } = request.body;
      const user = await registerUser(context, {
        firstName: first_name,
        secondName: second_name,
        birthdate: age === undefined ? birthdate : birthdateOfAge(age),
        biography,
        city,
        password,
      });
      return reply.code(201).send({ user_id: String(user.id) });
    },
  );

  app.post(
    '/login',
    {
      schema: {
        summary: 'Get a token',
        body: schemas.Credentials,
        response: schemas.answers(
          { 200: schemas.Token },
          ...schemas.REFUSED,
          ...schemas.BODY_REFUSED,
          401,
          404,
        ),
      },
    },
    async (request) => {
      const id = parseId(request.body.id, 'user');
      const createdAt = await limiter.login(id, () => checkPassword(context, id, request.body.password));
      return { token: await tokens.sign(id, createdAt) };
    },
  );

  app.get(
    '/user/get/:id',
    {
      schema: {
        summary: 'Get a user',
        params: schemas.IdParam,
        response: schemas.answers({ 200: schemas.User }, ...schemas.REFUSED, 404),
      },
    },
    async (request) => {
      const id = parseId(request.params.id, 'user');
      return userJson(await db.retry(() => getUser(db, id)));
    },
  );

  app.get(
    '/user/search',
    {
      schema: {
        summary: 'Search users by prefixes of their names, case-sensitive, ordered by id',
        querystring: schemas.UserSearch,
        response: schemas.answers({ 200: schemas.Users }, ...schemas.REFUSED, 422),
      },
    },
    async (request, reply) => {
      const { first_name = '', last_name = '', after = '0', limit = schemas.DEFAULT_SEARCH } = request.query;
      if (first_name === '' && last_name === '')
        throw new FeedctlError('USAGE', 'pass a prefix of first_name, of last_name or of both');
      for (const prefix of [first_name, last_name]) checkText(prefix, 'name');
      const query = { firstName: first_name, secondName: last_name, after: Number(after), limit };
      const users = await db.retry(() => searchUsers(db, query));
      if (users.length === limit) {
        const next = new URLSearchParams({
          first_name,
          last_name,
          limit: String(limit),
          after: String(users.at(-1)!.id),
        });
        void reply.header('link', `</user/search?${next}>; rel="next"`);
      }
      return users.map(userJson);
    },
  );
}
