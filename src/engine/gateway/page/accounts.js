// Logging in and registering. This browser remembers names and ids of accounts, but no password or token.
import { call, findUsers, nameIn, nameOf, session } from './api.js';
import { $, avatar, button, make, onSubmit, show } from './dom.js';
import { personRow } from './people.js';

const KEY = 'accounts';
const MAX_ACCOUNTS = 8;

/** Returns the remembered accounts, the last one first. */
function remembered() {
  try {
    const accounts = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return accounts.filter(({ id, name }) => /^\d{1,16}$/.test(id) && typeof name === 'string');
  } catch {
    // Another program of this origin has written the value, or the browser keeps nothing.
    return [];
  }
}

function save(accounts) {
  try {
    localStorage.setItem(KEY, JSON.stringify(accounts.slice(0, MAX_ACCOUNTS)));
  } catch {
    // A browser that keeps nothing asks for the name each time.
  }
}

const without = (id) => remembered().filter((account) => account.id !== id);

/** Shows the remembered accounts. */
export function renderAccounts() {
  const accounts = remembered();
  $('remembered').hidden = accounts.length === 0;
  $('accounts').replaceChildren(
    ...accounts.map(({ id, name }) =>
      make(
        'li',
        { className: 'person' },
        avatar(id, name),
        button(name, () => choose(id), { className: 'grow plain', ariaLabel: `Log in as ${name}` }),
        button(
          'Forget',
          () => {
            save(without(id));
            renderAccounts();
          },
          { ariaLabel: `Forget ${name}` },
        ),
      ),
    ),
  );
}

/** Fills in the id of an account; the password is left. */
function choose(id) {
  $('login').elements.who.value = id;
  $('candidates').hidden = true;
  $('login').elements.password.focus();
}

let onLogin = () => {};
/** `work` is called after each login. */
export function whenLoggedIn(work) {
  onLogin = work;
}

async function logIn(id, password) {
  const { token } = await call('POST', '/login', { body: { id, password }, token: null });
  session.begin(id, token);
  save([{ id, name: await nameOf(id) }, ...without(id)]);
  $('login').reset();
  $('candidates').hidden = true;
  onLogin();
}

/** Returns the id of a name or an id, or undefined: the user then chooses among the users of that name. */
async function accountOf(who) {
  if (/^\d{1,16}$/.test(who.trim())) return who.trim();
  const wanted = who.trim().toLowerCase();
  const users = await findUsers(who);
  const exact = users.filter((user) => nameIn(user).toLowerCase() === wanted);
  const candidates = exact.length > 0 ? exact : users;
  if (exact.length === 1) return exact[0].id;
  $('candidates').hidden = candidates.length === 0;
  $('candidates').replaceChildren(
    ...candidates.map((user) =>
      personRow(
        user,
        button('This one', () => choose(user.id), { ariaLabel: `Log in as user ${user.id}` }),
      ),
    ),
  );
  show(candidates.length === 0 ? `No user is called “${who}”.` : 'Several users are called so: choose one.');
  return undefined;
}

onSubmit($('login'), async ({ who, password }) => {
  const id = await accountOf(who);
  if (id !== undefined) await logIn(id, password);
});

onSubmit($('register'), async (person) => {
  const { user_id: id } = await call('POST', '/user/register', { body: person, token: null });
  await logIn(id, person.password);
  $('register').reset();
  show(`Welcome! You are user ${id}. This browser remembers you; elsewhere log in with your name.`);
});
