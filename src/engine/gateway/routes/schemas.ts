import { type TSchema, Type } from 'typebox';
import { MAX_PAGE } from '../../feed/read/read.ts';
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

/** Ids are strings on the wire: 53 bits do not fit the integers of every client. */
export const Id = Type.String({ pattern: '^[0-9]{1,16}$', description: 'a positive whole number' });
const Time = Type.String({ format: 'date-time' });
const Name = Type.String({ minLength: 1, maxLength: MAX_NAME_CHARACTERS });
const Text = Type.String({ description: `1 to ${MAX_POST_CHARACTERS} characters` });
const Birthdate = Type.String({ format: 'date' });

export const IdParam = Type.Object({ id: Id });
export const UserIdParam = Type.Object({ user_id: Id });

export const Registration = Type.Object({
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
  biography: Type.Optional(Type.String({ maxLength: MAX_TEXT_CHARACTERS })),
  city: Type.Optional(Type.String({ maxLength: MAX_NAME_CHARACTERS })),
  password: Type.String({ minLength: 1, maxLength: MAX_PASSWORD_CHARACTERS }),
});
export const Registered = Type.Object({ user_id: Id });

export const Credentials = Type.Object({
  id: Id,
  password: Type.String({ minLength: 1, maxLength: MAX_PASSWORD_CHARACTERS }),
});
export const Token = Type.Object({ token: Type.String({ description: 'a JWT, for 12 hours' }) });

export const User = Type.Object({
  id: Id,
  first_name: Type.String(),
  second_name: Type.String(),
  birthdate: Type.Union([Birthdate, Type.Null()]),
  biography: Type.String(),
  city: Type.String(),
});
export const Users = Type.Array(User);
export const UserSearch = Type.Object({
  first_name: Type.Optional(
    Type.String({ maxLength: MAX_NAME_CHARACTERS, description: 'prefix of the name' }),
  ),
  last_name: Type.Optional(
    Type.String({ maxLength: MAX_NAME_CHARACTERS, description: 'prefix of the name' }),
  ),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_PAGE, default: DEFAULT_SEARCH })),
  after: Type.Optional(Id),
});

export const Changed = Type.Object({
  changed: Type.Boolean({ description: 'false where it was already so' }),
});

export const NewPost = Type.Object({ text: Text });
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
  text: Text,
  version: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MAX_VERSION,
      description: 'the update fails where the post has another version',
    }),
  ),
});
const postFields = { id: Id, text: Type.String(), author_user_id: Id, createdAt: Time };
export const Post = Type.Object({ ...postFields, version: Type.Integer() });
export const Deleted = Type.Object({ deleted: Type.Literal(true) });

export const FeedQuery = Type.Object({
  offset: Type.Optional(Type.Integer({ minimum: 0, maximum: MAX_OFFSET, default: 0 })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_PAGE, default: DEFAULT_PAGE })),
  before: Type.Optional(Id),
});
export const FeedPage = Type.Array(Type.Object(postFields));

export const Ticket = Type.Object({
  ticket: Type.String({ description: 'opens one WebSocket' }),
  expiresIn: Type.Integer({ description: 'seconds' }),
});
export const Status = Type.Object({ status: Type.String() });

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

/** Adds problem details for every failure to the responses of a route. */
export const answers = <S extends Record<number, TSchema>>(own: S) => ({
  ...own,
  default: {
    description: 'problem details (RFC 9457)',
    content: { [PROBLEM_TYPE]: { schema: Type.Ref('Problem#') } },
  },
});

/** Security of routes that act as a user. The token is checked before the rest of the request. */
export const BEARER = [{ bearer: [] }] as const;
