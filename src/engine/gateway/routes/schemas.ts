import { STATUS_CODES } from 'node:http';
import { type TSchema, Type } from 'typebox';
import { MAX_PAGE } from '../../feed/read/read.ts';
import { MAX_ID } from '../../model/ids.ts';
import { MAX_POST_CHARACTERS } from '../../model/post.ts';
import { MAX_NAME_CHARACTERS } from '../../social/users.ts';
import { PROBLEM_TYPE } from '../problems.ts';

export const DEFAULT_PAGE = 20;
export const DEFAULT_SEARCH = 100;
/** Skipped posts cost as much as returned ones. */
const MAX_OFFSET = 10_000;
const MAX_TEXT_CHARACTERS = 5_000;
/** Passwords are hashed, so their length hardly matters to the server. */
const MAX_PASSWORD_CHARACTERS = 1_000;
const MAX_VERSION = 2_147_483_647;

/** Matches the numbers from 1 to 2^53 - 1: those of 15 digits, then those that differ at each digit. */
export const ID_PATTERN = `^0*(?:[1-9][0-9]{0,14}|${[...String(MAX_ID)]
  .map((digit, i, { length }) => {
    const first = i === 0 ? 1 : 0;
    const last = i === length - 1 ? Number(digit) : Number(digit) - 1;
    const rest = length - 1 - i;
    return last < first
      ? ''
      : `${String(MAX_ID).slice(0, i)}[${first}-${last}]${rest > 0 ? `[0-9]{${rest}}` : ''}`;
  })
  .filter((part) => part !== '')
  .join('|')})$`;
/** What the database stores unchanged. JSON in UTF-8 holds no text that is not well-formed. */
export const TEXT_PATTERN = '^[^\\x00]*$';
/** A text that is not blank. */
export const POST_PATTERN = '^\\s*[^\\s\\x00][^\\x00]*$';

/** Ids are strings on the wire: 53 bits do not fit the integers of every client. */
export const Id = Type.String({
  pattern: ID_PATTERN,
  maxLength: String(MAX_ID).length,
  description: 'a positive whole number below 2^53',
});
/** An id in an answer; in a request the place before all ids is one too. */
const Position = Type.String({ pattern: '^[0-9]{1,16}$', description: 'a positive whole number' });
const Time = Type.String({ format: 'date-time' });
const text = (options: { minLength?: number; maxLength: number; description?: string }) =>
  Type.String({ pattern: TEXT_PATTERN, ...options });
const Name = text({ minLength: 1, maxLength: MAX_NAME_CHARACTERS });
const PostText = Type.String({
  pattern: POST_PATTERN,
  minLength: 1,
  maxLength: MAX_POST_CHARACTERS,
  description: `1 to ${MAX_POST_CHARACTERS} characters, not only white space, and no NUL`,
});
const Birthdate = Type.String({
  format: 'date',
  pattern: '^(?:19|20)[0-9]{2}-',
  description: 'a date from 1900-01-01 to today',
});

export const IdParam = Type.Object({ id: Id });
export const UserIdParam = Type.Object({ user_id: Id });

export const Registration = Type.Object(
  {
    first_name: Name,
    second_name: Name,
    birthdate: Type.Optional(Birthdate),
    age: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 120,
        description: 'instead of a birthdate: the birthday is then today',
      }),
    ),
    biography: Type.Optional(text({ maxLength: MAX_TEXT_CHARACTERS })),
    city: Type.Optional(text({ maxLength: MAX_NAME_CHARACTERS })),
    password: Type.String({ minLength: 1, maxLength: MAX_PASSWORD_CHARACTERS }),
  },
  {
    not: { type: 'object', required: ['birthdate', 'age'] },
    description: 'a birthdate or an age, not both',
  },
);
export const Registered = Type.Object({ user_id: Position });

export const Credentials = Type.Object({
  id: Id,
  password: Type.String({ minLength: 1, maxLength: MAX_PASSWORD_CHARACTERS }),
});
export const Token = Type.Object({ token: Type.String({ description: 'a JWT, for 12 hours' }) });

export const User = Type.Object({
  id: Position,
  first_name: Type.String(),
  second_name: Type.String(),
  birthdate: Type.Union([Type.String({ format: 'date' }), Type.Null()]),
  biography: Type.String(),
  city: Type.String(),
});
export const Users = Type.Array(User);
export const UserSearch = Type.Object({
  first_name: Type.Optional(text({ maxLength: MAX_NAME_CHARACTERS, description: 'prefix of the name' })),
  last_name: Type.Optional(text({ maxLength: MAX_NAME_CHARACTERS, description: 'prefix of the name' })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_PAGE, default: DEFAULT_SEARCH })),
  after: Type.Optional(Position),
});

export const FolloweesQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_PAGE, default: DEFAULT_SEARCH })),
  after: Type.Optional(Position),
});
export const Changed = Type.Object({
  changed: Type.Boolean({ description: 'false where it was already so' }),
});

export const NewPost = Type.Object({ text: PostText });
export const IdempotencyHeader = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      pattern: '^[!-~]{1,255}$',
      description: 'a repeated request with the same key within 24 hours returns the first post',
    }),
  ),
});
export const PostUpdate = Type.Object({
  id: Id,
  text: PostText,
  version: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MAX_VERSION,
      description: 'the update fails where the post has another version',
    }),
  ),
});
const postFields = { id: Position, text: Type.String(), author_user_id: Position, createdAt: Time };
export const Post = Type.Object({ ...postFields, version: Type.Integer() });
export const Posts = Type.Array(Post);
export const Deleted = Type.Object({ deleted: Type.Literal(true) });

export const FeedQuery = Type.Object({
  offset: Type.Optional(Type.Integer({ minimum: 0, maximum: MAX_OFFSET, default: 0 })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_PAGE, default: DEFAULT_PAGE })),
  before: Type.Optional(Id),
});
export const PostsQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_PAGE, default: DEFAULT_PAGE })),
  before: Type.Optional(Id),
});
export const FeedPage = Type.Array(Type.Object(postFields));

export const Ticket = Type.Object({
  ticket: Type.String({ description: 'opens one WebSocket' }),
  expiresIn: Type.Integer({ description: 'seconds' }),
});
export const Status = Type.Object({ status: Type.String() });
export const PrometheusText = {
  description: 'metrics',
  content: { 'text/plain': { schema: Type.String() } },
};

export const Problem = Type.Object(
  {
    type: Type.String({ description: 'a URN that ends in the code' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.String({ description: 'see docs/errors.md' }),
    requestId: Type.Optional(
      Type.String({ format: 'uuid', description: 'of a 5xx: id of the log line with the reason' }),
    ),
  },
  { $id: 'Problem' },
);

/** Statuses of failures of every route that has limits. A route with a body has further ones. */
export const REFUSED = [400, 429, 503] as const;
export const BODY_REFUSED = [413, 415] as const;
/** Without a token, and with that of an erased account. */
export const TOKEN_REFUSED = [401, 404] as const;
/** Without a token, with that of a user, and at a gateway that shows no cluster. */
export const OPERATOR_REFUSED = [401, 403, 404] as const;

/**
 * Adds problem details to the responses of a route: for the statuses of failures that it names, and as
 * `default` for faults of a server and for requests that mean another gateway.
 */
export const answers = <S extends Record<number, TSchema>>(own: S, ...failures: number[]) => ({
  ...own,
  ...(Object.fromEntries(failures.map((status) => [status, failure(STATUS_CODES[status]!)])) as Record<
    never,
    never
  >),
  default: failure('problem details (RFC 9457)'),
});

const failure = (description: string) => ({
  description,
  content: { [PROBLEM_TYPE]: { schema: Type.Ref('Problem#') } },
});

/** Security of routes that act as a user. The token is checked before the rest of the request. */
export const BEARER = [{ bearer: [] }] as const;
/** Security of routes that show the cluster to operators. */
export const OPERATOR = [{ operator: [] }] as const;

/**
 * Describes the names of a search as one parameter, of which at least one property is needed. On the
 * wire they are `first_name` and `last_name`: two parameters could not say so.
 */
export function describeSearch<T>(document: { openapiObject: T } | { swaggerObject: unknown }): T {
  const { openapiObject } = document as { openapiObject: T };
  const { paths } = openapiObject as { paths: Record<string, { get: { parameters: Parameter[] } }> };
  const search = paths['/user/search']!.get;
  const isName = ({ name }: Parameter) => name === 'first_name' || name === 'last_name';
  const names = search.parameters.filter(isName);
  const properties = Object.fromEntries(
    names.map(({ name, schema, description }) => [name, { ...schema, description }]),
  );
  const one = (name: string) => ({ required: [name], properties: { [name]: { minLength: 1 } } });
  const schema = { type: 'object', properties, anyOf: names.map(({ name }) => one(name)) };
  const described = { in: 'query', name: 'names', required: true, style: 'form', explode: true, schema };
  search.parameters = [described, ...search.parameters.filter((parameter) => !isName(parameter))];
  return openapiObject;
}

interface Parameter {
  readonly name: string;
  readonly schema: object;
  readonly description?: string;
}
