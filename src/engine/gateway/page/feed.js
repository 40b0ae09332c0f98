// The feed of the user, newest first, with the texts of the last edits.
import { call, nameOf, read, session } from './api.js';
import { $, attempt, avatar, button, make, timeSince } from './dom.js';

const FEED_PAGE = 20;
const MAX_PAGE = 1_000;
const MAX_EDITS = 100;
/** Maximum wait for the posts of a user who was followed just now; usually they take less than a second. */
const REFILL_MS = 60_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 2_000;

/** List items on the page, by post id. */
const items = new Map();
let oldest;
/** The feed has been read since the login. */
let wasRead = false;
/** The last edits of this connection, by post id: a page that was read before one may arrive after it. */
const edits = new Map();

function renderEmpty() {
  $('empty').hidden = !wasRead || items.size > 0;
}

/** Shows a post, or its present text if it is shown already. `live`: the socket brought it. */
export function add(post, live) {
  const present = edits.get(post.id) ?? post.text;
  const shown = items.get(post.id);
  if (shown) {
    shown.querySelector('p').textContent = present;
    return;
  }
  const item = itemOf(post, present);
  if (live) item.dataset.live = '';
  // Newest first: an id that arrives out of order is inserted at its place.
  const older = [...$('feed').children].find((other) => Number(other.dataset.id) < Number(post.id));
  $('feed').insertBefore(item, older ?? null);
  items.set(post.id, item);
  renderEmpty();
}

function itemOf({ id, author_user_id: authorId, createdAt }, present) {
  const mine = authorId === session.userId;
  const face = make('span');
  const author = make('strong', {}, `user ${authorId}`);
  void nameOf(authorId).then((name) => {
    author.textContent = name;
    face.replaceChildren(avatar(authorId, name));
  });
  const line = make('div', { className: 'about' }, author, ' ', timeSince(createdAt));
  const text = make('p', {}, present);
  const body = make('div', { className: 'body' }, line, text);
  const item = make('li', { className: 'card entry' }, face, body);
  item.dataset.id = id;
  item.dataset.author = authorId;
  if (mine) body.append(ownButtons(id, body, text));
  return item;
}

/** Returns the buttons that change one's own post. */
function ownButtons(id, body, text) {
  const row = make('div', { className: 'line own' });
  const usual = () => row.replaceChildren(editing, deleting);
  const editing = button('Edit', () => editText(id, body, text, row));
  const deleting = button('Delete', () => {
    const keeping = button('Keep', () => {
      usual();
      deleting.focus();
    });
    row.replaceChildren(
      make('span', { className: 'hint' }, 'Delete this post for everybody?'),
      button(
        'Delete',
        async () => {
          await call('PUT', `/post/delete/${id}`);
          remove(id);
        },
        { className: 'danger' },
      ),
      keeping,
    );
    keeping.focus();
  });
  usual();
  return row;
}

/** Replaces the text of one's own post by a form until it is saved or cancelled. */
function editText(id, body, text, row) {
  const area = make('textarea', { rows: 3, maxLength: 5000, required: true, value: text.textContent });
  area.setAttribute('aria-label', 'Text of the post');
  const end = () => {
    form.remove();
    text.hidden = false;
    row.hidden = false;
    row.querySelector('button')?.focus();
  };
  const form = make(
    'form',
    {},
    area,
    make(
      'div',
      { className: 'line' },
      button(
        'Save',
        async () => {
          if (!area.reportValidity()) return;
          await call('PUT', '/post/update', { body: { id, text: area.value } });
          edit(id, area.value);
          end();
        },
        { className: 'primary' },
      ),
      button('Cancel', end),
    ),
  );
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('keydown', ({ key }) => key === 'Escape' && end());
  text.hidden = true;
  row.hidden = true;
  body.insertBefore(form, row);
  area.focus();
}

export function remove(postId) {
  items.get(postId)?.remove();
  items.delete(postId);
  renderEmpty();
}

/** Removes the posts of an author who is not followed any more. */
export function removeAuthor(authorId) {
  for (const [id, item] of [...items]) if (item.dataset.author === authorId) remove(id);
}

export function edit(postId, text) {
  edits.delete(postId);
  edits.set(postId, text);
  if (edits.size > MAX_EDITS) edits.delete(edits.keys().next().value);
  const shown = items.get(postId);
  if (shown) shown.querySelector('p').textContent = text;
}

/** A new connection begins: earlier edits are in the pages that are read from now on. */
export function beginConnection(recovered) {
  edits.clear();
  // The socket sends only new posts. Read the feed at first, and after a gap that was too long to resend.
  void attempt(() => (wasRead && recovered ? refreshTexts() : readNewest()));
}

/** Shows the present texts of the newest posts: edits without a connection are not sent later. */
async function refreshTexts() {
  if (items.size === 0) return;
  const page = await call('GET', `/post/feed?limit=${Math.min(items.size, MAX_PAGE)}`);
  for (const post of page) if (items.has(post.id)) add(post, false);
}

/** Reads a page of the feed: the newest posts, or those below the post `before`. */
async function readPage(before) {
  const from = before === undefined ? '' : `&before=${before}`;
  const page = await call('GET', `/post/feed?limit=${FEED_PAGE}${from}`);
  for (const post of page) add(post, false);
  oldest = page.at(-1)?.id ?? oldest;
  $('older').hidden = page.length < FEED_PAGE;
  wasRead = true;
  renderEmpty();
  return page;
}

/** Reads the newest page. Posts below it are removed: posts may be missing between them. */
async function readNewest() {
  const page = await readPage();
  if (page.length < FEED_PAGE) return page;
  for (const id of [...items.keys()]) if (Number(id) < Number(oldest)) remove(id);
  return page;
}

/**
 * Reads the feed until it has the newest post of a user who was followed just now. The cluster fills
 * a feed after it has answered the follow. Returns false if the posts are not there in time.
 */
export async function readUntilFilled(userId) {
  const { token } = session;
  let pauseMs = FIRST_PAUSE_MS;
  for (
    const until = Date.now() + REFILL_MS;
    Date.now() < until;
    pauseMs = Math.min(MAX_PAUSE_MS, 2 * pauseMs)
  ) {
    const [newest] = await read(`/post/list/${userId}?limit=1`);
    if (session.token !== token) return true;
    const page = await readNewest();
    const isBelow = newest && page.length === FEED_PAGE && Number(newest.id) < Number(oldest);
    if (!newest || isBelow || page.some(({ id }) => id === newest.id)) return true;
    await new Promise((done) => setTimeout(done, pauseMs));
  }
  return false;
}

/** Empties the page for another user. */
export function forgetFeed() {
  items.clear();
  edits.clear();
  oldest = undefined;
  wasRead = false;
  $('feed').replaceChildren();
  $('older').hidden = true;
  $('empty').hidden = true;
}

$('older').addEventListener('click', () => attempt(() => readPage(oldest)));
