// The HTTP API of the gateway, and the login of this tab.

/** The login of this tab. Another tab may have another user. */
export const session = {
  get token() {
    return sessionStorage.getItem('token');
  },
  get userId() {
    return sessionStorage.getItem('userId');
  },
  /** Position in the feed from which the next socket resumes. Kept over a reload of the page. */
  get cursor() {
    return sessionStorage.getItem('cursor');
  },
  set cursor(cursor) {
    sessionStorage.setItem('cursor', cursor);
  },
  begin(userId, token) {
    sessionStorage.setItem('userId', userId);
    sessionStorage.setItem('token', token);
  },
  end() {
    for (const key of ['userId', 'token', 'cursor']) sessionStorage.removeItem(key);
  },
};

/** A failure that the gateway has answered with. */
export class Refused extends Error {
  constructor(status, problem, retryAfterSeconds) {
    super(problem?.detail ?? `the gateway answered ${status}`);
    this.status = status;
    this.retryAfterMs = retryAfterSeconds * 1000;
  }
}

/** Sends a request, and returns the response and its JSON. Throws Refused. */
export async function ask(method, path, { body, headers = {}, token = session.token } = {}) {
  const response = await fetch(path, {
    method,
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  const answer = await response.json().catch(() => undefined);
  if (!response.ok)
    throw new Refused(response.status, answer, Number(response.headers.get('retry-after') ?? 0));
  return { response, answer };
}

/** As `ask`, and returns the JSON alone. */
export const call = async (method, path, options) => (await ask(method, path, options)).answer;

/** Reads what needs no token: such a request must not count against the limit of the user. */
export const read = (path) => call('GET', path, { token: null });

export const nameIn = ({ id, first_name, second_name }) =>
  `${first_name} ${second_name}`.trim() || `user ${id}`;

const names = new Map();

/** Returns the name of a user, which is read once. */
export function nameOf(userId) {
  if (!names.has(userId)) {
    const name = read(`/user/get/${userId}`).then(nameIn, () => {
      // A failure is no answer: the next call reads the name again.
      names.delete(userId);
      return `user ${userId}`;
    });
    names.set(userId, name);
  }
  return names.get(userId);
}

/** Notes a user whose name another answer contained. */
export const noteName = (user) => names.set(user.id, Promise.resolve(nameIn(user)));

const capitalised = (word) => word.charAt(0).toUpperCase() + word.slice(1);
const search = (query) => read(`/user/search?limit=20&${new URLSearchParams(query)}`);

/** Finds users by an id or the beginning of a name. The API distinguishes upper and lower case. */
export async function findUsers(text) {
  const words = text.trim().split(/\s+/);
  if (words.length === 1 && /^\d{1,16}$/.test(words[0])) {
    const user = await read(`/user/get/${words[0]}`).catch((error) => {
      if (error.status === 404) return undefined;
      throw error;
    });
    return user ? [user] : [];
  }
  const [first, ...rest] = words.map(capitalised);
  const found =
    rest.length > 0
      ? await search({ first_name: first, last_name: rest.join(' ') })
      : (await Promise.all([search({ first_name: first }), search({ last_name: first })])).flat();
  const users = [...new Map(found.map((user) => [user.id, user])).values()];
  for (const user of users) noteName(user);
  return users;
}
