// Finding people, following them, and the list of those that the user follows.
import { ask, call, findUsers, nameIn, noteName, session } from './api.js';
import { $, attempt, avatar, button, make, onSubmit, setText, show } from './dom.js';
import { readUntilFilled, removeAuthor } from './feed.js';

const FOLLOWEES_PAGE = 50;

/** Users that are followed, as far as the list has been read, by id. */
const followees = new Map();
let nextPath;

/** Returns a list item for a user. */
export function personRow(user, ...children) {
  const name = nameIn(user);
  const place = user.city ? `${user.city}, ` : '';
  const about = make('small', { className: 'hint' }, `${place}user\u00a0${user.id}`);
  return make(
    'li',
    { className: 'person' },
    avatar(user.id, name),
    make('span', { className: 'grow' }, make('span', { className: 'name' }, name), about),
    ...children,
  );
}

function followButton(user) {
  if (user.id === session.userId) return make('span', { className: 'hint' }, 'you');
  const name = nameIn(user);
  return followees.has(user.id)
    ? button('Unfollow', () => unfollow(user), { ariaLabel: `Unfollow ${name}` })
    : button('Follow', () => follow(user), { ariaLabel: `Follow ${name}`, className: 'primary' });
}

let found = [];

function render() {
  const followed = [...followees.values()];
  const count = followed.length > 0 ? `(${followed.length}${nextPath ? '+' : ''})` : '(no one yet)';
  setText($('followees-count'), count);
  $('followees').replaceChildren(...followed.map((user) => personRow(user, followButton(user))));
  $('found').replaceChildren(...found.map((user) => personRow(user, followButton(user))));
  $('more-followees').hidden = !nextPath;
}

async function follow(user) {
  const me = session.userId;
  await call('PUT', `/friend/set/${user.id}`);
  followees.set(user.id, user);
  render();
  $('people')
    .querySelector(`[aria-label="Unfollow ${CSS.escape(nameIn(user))}"]`)
    ?.focus();
  setText($('progress'), `Reading the posts of ${nameIn(user)} …`);
  try {
    const filled = await readUntilFilled(user.id);
    if (!filled && session.userId === me) show(`The posts of ${nameIn(user)} are still on their way.`);
  } finally {
    setText($('progress'), '');
  }
}

async function unfollow(user) {
  await call('PUT', `/friend/delete/${user.id}`);
  followees.delete(user.id);
  removeAuthor(user.id);
  render();
}

async function readFollowees(path) {
  const { response, answer } = await ask('GET', path);
  for (const user of answer) {
    noteName(user);
    followees.set(user.id, user);
  }
  nextPath = /<(.*)>; rel="next"/.exec(response.headers.get('link') ?? '')?.[1];
  render();
}

/** Reads whom the user follows. */
export const beginPeople = () => attempt(() => readFollowees(`/friend/list?limit=${FOLLOWEES_PAGE}`));

/** Empties the lists for another user. */
export function forgetPeople() {
  followees.clear();
  found = [];
  nextPath = undefined;
  render();
}

onSubmit($('search'), async ({ query }) => {
  found = await findUsers(query);
  render();
  if (found.length === 0) show(`No user has the name or the id “${query}”.`);
});
$('more-followees').addEventListener('click', () => attempt(() => readFollowees(nextPath)));
