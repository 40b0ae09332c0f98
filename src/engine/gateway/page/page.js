// A client of the gateway, which uses the HTTP API and the WebSocket only. Texts of users are
// inserted into the document as text, never as HTML.

const FEED_PAGE = 20;
const MAX_PAGE = 1_000;
const MAX_EDITS = 100;
const MIN_BACKOFF_MS = 500;
const MAX_BACKOFF_MS = 15_000;

const $ = (id) => document.getElementById(id);
/** The login of this tab. Another tab may have another user. */
const session = {
  get token() {
    return sessionStorage.getItem('token');
  },
  get userId() {
    return sessionStorage.getItem('userId');
  },
  begin(userId, token) {
    sessionStorage.setItem('userId', userId);
    sessionStorage.setItem('token', token);
  },
  end() {
    sessionStorage.clear();
  },
};

class Refused extends Error {
  constructor(status, problem, retryAfterSeconds) {
    super(problem?.detail ?? `the gateway answered ${status}`);
    this.status = status;
    this.retryAfterMs = retryAfterSeconds * 1000;
  }
}

async function call(method, path, { body, headers = {}, token = session.token } = {}) {
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
  return answer;
}

function show(text) {
  $('message').textContent = text;
  $('message').hidden = text === '';
}

/** Runs an action of the user, and shows its error. */
async function attempt(work) {
  show('');
  try {
    await work();
  } catch (error) {
    if (error.status === 401 && session.token) logOut('Please log in again.');
    else show(error.message);
  }
}

// The feed.

const names = new Map();
/** Sends no token: reading names must not count against the user's request limit. */
function nameOf(userId) {
  if (!names.has(userId)) {
    names.set(
      userId,
      call('GET', `/user/get/${userId}`, { token: null }).then(
        (user) => `${user.first_name} ${user.second_name}`.trim() || `user ${userId}`,
        () => `user ${userId}`,
      ),
    );
  }
  return names.get(userId);
}

/** List items on the page, by post id. */
const items = new Map();
let oldest;
/** The last edits of this connection, by post id: a page that was read before one may arrive after it. */
const edits = new Map();

function add(post, live) {
  const present = edits.get(post.id) ?? post.text;
  const shown = items.get(post.id);
  if (shown) {
    shown.querySelector('p').textContent = present;
    return;
  }
  const item = document.createElement('li');
  item.dataset.id = post.id;
  if (live) item.dataset.live = '';
  const text = document.createElement('p');
  text.textContent = present;
  const author = document.createElement('span');
  author.textContent = `user ${post.author_user_id}`;
  void nameOf(post.author_user_id).then((name) => {
    author.textContent = name;
  });
  const about = document.createElement('small');
  about.append(author, ` (${post.author_user_id}), ${new Date(post.createdAt).toLocaleString()}`);
  item.append(text, about);
  // Newest first: an id that arrives out of order is inserted at its place.
  const older = [...$('feed').children].find((other) => Number(other.dataset.id) < Number(post.id));
  $('feed').insertBefore(item, older ?? null);
  items.set(post.id, item);
}

function remove(postId) {
  items.get(postId)?.remove();
  items.delete(postId);
}

function edit(postId, text) {
  edits.delete(postId);
  edits.set(postId, text);
  if (edits.size > MAX_EDITS) edits.delete(edits.keys().next().value);
  const shown = items.get(postId);
  if (shown) shown.querySelector('p').textContent = text;
}

/** Shows the present texts of the newest posts: edits without a connection are not sent later. */
async function refreshTexts() {
  const page = await call('GET', `/post/feed?limit=${Math.min(items.size, MAX_PAGE)}`);
  for (const post of page) if (items.has(post.id)) add(post, false);
}

async function readFeed(before) {
  const page = await call(
    'GET',
    `/post/feed?limit=${FEED_PAGE}${before === undefined ? '' : `&before=${before}`}`,
  );
  for (const post of page) add(post, false);
  if (page.length > 0 && (before === undefined || oldest === before)) oldest = page.at(-1).id;
  $('older').hidden = page.length < FEED_PAGE;
}

// The live connection.

function showState(state, text) {
  $('state').dataset.state = state;
  $('state').textContent = text;
}

/** The live connection of a login: opens a WebSocket, and another one when it is closed. */
class Live {
  #stop = new AbortController();
  #failures = 0;
  #socket;
  #wake = () => {};

  /** Position in the feed from which the next socket resumes. Kept over a reload of the page. */
  get #cursor() {
    return sessionStorage.getItem('cursor');
  }

  set #cursor(cursor) {
    sessionStorage.setItem('cursor', cursor);
  }

  constructor() {
    // The network is back: connect without the backoff. It is lost: do not trust an open socket.
    addEventListener('online', () => this.#wake(), { signal: this.#stop.signal });
    addEventListener('offline', () => this.#socket?.close(), { signal: this.#stop.signal });
    void this.#run();
  }

  stop() {
    this.#stop.abort();
    this.#socket?.close();
    this.#wake();
  }

  async #run() {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let backoffMs = Math.random() * Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** this.#failures);
      showState('connecting', 'connecting …');
      try {
        const { ticket } = await call('POST', '/ticket');
        if (signal.aborted) return;
        await this.#connected(ticket);
      } catch (error) {
        if (error.status === 401 && !signal.aborted) return logOut('Please log in again.');
        backoffMs = Math.max(backoffMs, error.retryAfterMs || 0);
      }
      if (signal.aborted) return;
      this.#failures += 1;
      showState('waiting', `no connection; retrying in ${Math.ceil(backoffMs / 1000)} s`);
      await new Promise((done) => {
        this.#wake = done;
        setTimeout(done, backoffMs);
      });
    }
  }

  /** Resolves when the socket is closed. */
  #connected(ticket) {
    const url = new URL('/post/feed/posted', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    url.searchParams.set('ticket', ticket);
    if (this.#cursor) url.searchParams.set('after', this.#cursor);
    const socket = new WebSocket(url);
    this.#socket = socket;
    return new Promise((closed) => {
      socket.onclose = closed;
      socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    });
  }

  #take({ messageId, payload, cursor }) {
    if (cursor) this.#cursor = cursor;
    if (messageId === 'hello') {
      this.#failures = 0;
      edits.clear();
      showState('live', 'live');
      // The socket sends only new posts. Read the feed at first, and after a gap that was too long
      // to resend.
      if (items.size === 0 || payload.recovered === false) void attempt(() => readFeed());
      else void attempt(() => refreshTexts());
    } else if (messageId === 'post') {
      const { postId, postText, author_user_id, createdAt } = payload;
      add({ id: postId, text: postText, author_user_id, createdAt }, true);
    } else if (messageId === 'edited') {
      edit(payload.postId, payload.postText);
    } else if (messageId === 'deleted') {
      remove(payload.postId);
    }
  }
}

// Logging in and out.

let live;

function render() {
  const { userId } = session;
  $('out').hidden = userId !== null;
  $('in').hidden = userId === null;
  if (userId === null) {
    showState('out', 'not logged in');
    return;
  }
  $('me').textContent = `user ${userId}`;
  void nameOf(userId).then((name) => {
    $('me').textContent = `${name} (${userId})`;
  });
  live = new Live();
}

function logOut(text = '') {
  live?.stop();
  live = undefined;
  session.end();
  items.clear();
  edits.clear();
  oldest = undefined;
  $('feed').replaceChildren();
  $('found').replaceChildren();
  $('older').hidden = true;
  render();
  show(text);
}

async function logIn(id, password) {
  const { token } = await call('POST', '/login', { body: { id, password }, token: null });
  session.begin(id, token);
  render();
}

// Forms.

/** Returns the fields of a form that are not empty. */
const fieldsOf = (form) => Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ''));

function onSubmit(id, work) {
  $(id).addEventListener('submit', (event) => {
    event.preventDefault();
    const buttons = $(id).querySelectorAll('button');
    for (const button of buttons) button.disabled = true;
    void attempt(() => work(fieldsOf($(id)), event.submitter?.value)).finally(() => {
      for (const button of buttons) button.disabled = false;
    });
  });
}

onSubmit('login', async ({ id, password }) => {
  await logIn(id, password);
  $('login').reset();
});
onSubmit('register', async (person) => {
  const { user_id } = await call('POST', '/user/register', { body: person, token: null });
  await logIn(user_id, person.password);
  $('register').reset();
  show(`Your user id is ${user_id}. Log in with it.`);
});

/** The text of a post without a response, and its key: sending it again does not post it twice. */
let unsent;
onSubmit('post', async ({ text }) => {
  if (unsent?.text !== text) unsent = { text, key: crypto.randomUUID?.() ?? String(Math.random()) };
  const post = await call('POST', '/post/create', {
    body: { text },
    headers: { 'idempotency-key': unsent.key },
  });
  unsent = undefined;
  $('post').reset();
  add(post, false);
});

async function follow(id, act) {
  await call('PUT', `/friend/${act}/${id}`);
  // A follow changes which posts are in the feed.
  for (const postId of [...items.keys()]) remove(postId);
  await readFeed();
}
onSubmit('follow', async ({ id }, act = 'set') => {
  await follow(id, act);
  $('follow').reset();
});
onSubmit('search', async (query) => {
  const users = await call('GET', `/user/search?limit=20&${new URLSearchParams(query)}`);
  $('found').replaceChildren(
    ...users.map((user) => {
      const item = document.createElement('li');
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = 'Follow';
      button.onclick = () => attempt(() => follow(user.id, 'set'));
      item.append(`${user.first_name} ${user.second_name} (${user.id}) `, button);
      return item;
    }),
  );
  if (users.length === 0) show('No user has that name.');
});
$('older').addEventListener('click', () => attempt(() => readFeed(oldest)));
$('logout').addEventListener('click', () => logOut());

render();
