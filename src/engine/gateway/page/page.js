// A client of the gateway as any other: everything goes through the HTTP API and the WebSocket.
// Texts of other people reach the document as text only.

const FEED_PAGE = 20;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

const $ = (id) => document.getElementById(id);
/** Of this tab: another one may be somebody else. */
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

/** Runs what somebody asked for; what is wrong with it is shown. */
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
/** Without the token: what others are called is no request of this user's. */
function nameOf(userId) {
  if (!names.has(userId)) {
    const asked = call('GET', `/user/get/${userId}`, { token: null });
    names.set(
      userId,
      asked.then(
        (user) => `${user.first_name} ${user.second_name}`.trim() || `user ${userId}`,
        () => `user ${userId}`,
      ),
    );
  }
  return names.get(userId);
}

/** The items that are shown, by post id. */
const items = new Map();
let oldest;

function add(post, live) {
  if (items.has(post.id)) return;
  const item = document.createElement('li');
  item.dataset.id = post.id;
  if (live) item.dataset.live = '';
  const text = document.createElement('p');
  text.textContent = post.text;
  const author = document.createElement('span');
  author.textContent = `user ${post.author_user_id}`;
  void nameOf(post.author_user_id).then((name) => {
    author.textContent = name;
  });
  const about = document.createElement('small');
  about.append(author, ` (${post.author_user_id}), ${new Date(post.createdAt).toLocaleString()}`);
  item.append(text, about);
  // Newest first: an id that arrives out of order still stands where it belongs.
  const older = [...$('feed').children].find((other) => Number(other.dataset.id) < Number(post.id));
  $('feed').insertBefore(item, older ?? null);
  items.set(post.id, item);
}

function remove(postId) {
  items.get(postId)?.remove();
  items.delete(postId);
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

/** One WebSocket after the other, for as long as somebody is logged in. */
class Live {
  #stop = new AbortController();
  #failures = 0;
  #socket;
  #wake = () => {};

  /** What was delivered: the next socket goes on from there. Kept over a reload of the page. */
  get #cursor() {
    return sessionStorage.getItem('cursor');
  }

  set #cursor(cursor) {
    sessionStorage.setItem('cursor', cursor);
  }

  constructor() {
    // Nobody waits for a network that is back, nor believes in a socket without one.
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
      let waitMs = Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures);
      showState('connecting', 'connecting …');
      try {
        const { ticket } = await call('POST', '/ticket');
        if (signal.aborted) return;
        await this.#connected(ticket);
      } catch (error) {
        if (error.status === 401 && !signal.aborted) return logOut('Please log in again.');
        waitMs = Math.max(waitMs, error.retryAfterMs || 0);
      }
      if (signal.aborted) return;
      this.#failures += 1;
      showState('waiting', `no connection; again in ${Math.ceil(waitMs / 1000)} s`);
      await new Promise((done) => {
        this.#wake = done;
        setTimeout(done, waitMs);
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
      showState('live', 'live');
      // What the socket does not bring is in the feed: all of it at first, or what was too much to be sent again.
      if (items.size === 0 || payload.recovered === false) void attempt(() => readFeed());
    } else if (messageId === 'post') {
      const { postId, postText, author_user_id, createdAt } = payload;
      add({ id: postId, text: postText, author_user_id, createdAt }, true);
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

/** What a form holds, without the fields that were left empty. */
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
  show(`Your user id is ${user_id}: you log in with it.`);
});

/** A text that is sent again after its answer was lost is the same post. */
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
  // The feed has other posts now.
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
  if (users.length === 0) show('Nobody is called that.');
});
$('older').addEventListener('click', () => attempt(() => readFeed(oldest)));
$('logout').addEventListener('click', () => logOut());

render();
