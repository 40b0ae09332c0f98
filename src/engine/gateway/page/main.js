// A client of the gateway, which uses the HTTP API and the WebSocket only.
import { renderAccounts, whenLoggedIn } from './accounts.js';
import { call, nameOf, session } from './api.js';
import { beginCluster } from './cluster.js';
import { $, attempt, avatar, onSubmit, show } from './dom.js';
import { add, forgetFeed } from './feed.js';
import { Live, showState } from './live.js';
import { beginPeople, forgetPeople } from './people.js';

let live;

/** Shows the tab that the fragment of the address names. */
function renderTab() {
  const tab = location.hash === '#/cluster' ? 'cluster' : 'feed';
  for (const link of document.querySelectorAll('header nav a')) {
    if (link.hash === (tab === 'cluster' ? '#/cluster' : '#/')) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const loggedIn = session.userId !== null;
  $('out').hidden = tab !== 'feed' || loggedIn;
  $('in').hidden = tab !== 'feed' || !loggedIn;
  $('cluster').hidden = tab !== 'cluster';
  document.title = tab === 'cluster' ? 'feedctl: cluster' : 'feedctl';
  beginCluster(tab === 'cluster');
}

function begin() {
  const { userId } = session;
  renderTab();
  if (userId === null) {
    showState('out', 'not logged in');
    renderAccounts();
    return;
  }
  $('me').textContent = `user ${userId}`;
  $('me-id').textContent = userId;
  void nameOf(userId).then((name) => {
    $('me').textContent = name;
    $('me-avatar').replaceChildren(avatar(userId, name));
  });
  live = new Live(() => logOut('Please log in again.'));
  void beginPeople();
}

function logOut(text = '') {
  live?.stop();
  live = undefined;
  session.end();
  forgetFeed();
  forgetPeople();
  begin();
  show(text);
}

attempt.onExpired = () => {
  if (!session.token) return false;
  logOut('Please log in again.');
  return true;
};

/** The text of a post without a response, and its key: sending it again does not post it twice. */
let unsent;
onSubmit($('post'), async ({ text }) => {
  if (unsent?.text !== text) unsent = { text, key: crypto.randomUUID?.() ?? String(Math.random()) };
  const post = await call('POST', '/post/create', {
    body: { text },
    headers: { 'idempotency-key': unsent.key },
  });
  unsent = undefined;
  $('post').reset();
  renderLeft();
  add(post, false);
});

const MAX_CHARACTERS = 5_000;
const WARN_CHARACTERS = 500;

/** Shows how many characters are left, once few are. */
function renderLeft() {
  const left = MAX_CHARACTERS - [...$('text').value].length;
  $('left').textContent = left < WARN_CHARACTERS ? `${left} characters left` : '';
}
$('text').addEventListener('input', renderLeft);
$('text').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('post').requestSubmit();
});

$('logout').addEventListener('click', () => logOut());
$('skip').addEventListener('click', (event) => {
  // The fragment names the tab.
  event.preventDefault();
  $('main').focus();
});
addEventListener('hashchange', () => {
  show('');
  renderTab();
});
// A wide window has room for the people beside the feed.
$('people').open = matchMedia('(min-width: 56rem)').matches;
whenLoggedIn(begin);
begin();
