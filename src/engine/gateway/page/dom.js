// Elements of the page. Texts of users are inserted as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** Makes an element with these properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Sets a text if it differs: a live region announces each change. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows a message at the top; an empty text hides it. */
export function show(text) {
  $('message').textContent = text;
  $('message').hidden = text === '';
}

const TONES = 8;
/** A step of a hash that spreads ids: their low bits are a number of a process, equal for many users. */
const HASH_FACTOR = 31;

/** Returns a circle with the initials of a name. The colour is that of the id. */
export function avatar(userId, name) {
  const words = name.split(/\s+/).filter((word) => /^\p{L}/u.test(word));
  const initials = [words[0], words.length > 1 ? words.at(-1) : undefined]
    .map((word) => [...(word ?? '')][0] ?? '')
    .join('');
  const tone = [...userId].reduce((hash, digit) => (hash * HASH_FACTOR + Number(digit)) % 997, 0) % TONES;
  return make(
    'span',
    { className: `avatar tone-${tone}`, 'aria-hidden': 'true' },
    initials.toUpperCase() || '#',
  );
}

const STEPS = [
  ['second', 60],
  ['minute', 60],
  ['hour', 24],
  ['day', 7],
  ['week', 4.35],
  ['month', 12],
  ['year', Number.POSITIVE_INFINITY],
];
const NOW_SECONDS = 10;
const relativeTimes = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' });

/** Returns the time since a date, such as `5 min. ago`. */
function ago(date) {
  let amount = (date.getTime() - Date.now()) / 1000;
  if (Math.abs(amount) < NOW_SECONDS) return 'now';
  for (const [unit, size] of STEPS) {
    if (Math.abs(amount) < size) return relativeTimes.format(Math.round(amount), unit);
    amount /= size;
  }
  return date.toLocaleDateString('en');
}

/** Returns an element with the time since a date, which `refreshTimes` keeps right. */
export function timeSince(iso) {
  const date = new Date(iso);
  return make('time', { dateTime: iso, title: date.toLocaleString() }, ago(date));
}

const REFRESH_MS = 10_000;
setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll('time')) setText(element, ago(new Date(element.dateTime)));
}, REFRESH_MS);

/** Runs an action of the user, and shows its error. `onExpired`: the token is no longer valid. */
export async function attempt(work) {
  show('');
  try {
    await work();
  } catch (error) {
    if (error.status === 401 && attempt.onExpired?.()) return;
    show(error.message);
  }
}

/** Returns the fields of a form that are not empty. */
const fieldsOf = (form) => Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ''));

/** Runs `work` with the fields of a form. Its buttons are disabled meanwhile. */
export function onSubmit(form, work) {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void busy(form.querySelectorAll('button'), () => work(fieldsOf(form)));
  });
}

/** Returns a button that runs `work`, and is disabled meanwhile. */
export function button(text, work, properties = {}) {
  const element = make('button', { type: 'button', ...properties }, text);
  element.addEventListener('click', () => void busy([element], work));
  return element;
}

async function busy(buttons, work) {
  const focused = document.activeElement;
  for (const one of buttons) one.disabled = true;
  await attempt(work);
  for (const one of buttons) one.disabled = false;
  // A disabled button loses the focus of the keyboard.
  if (document.activeElement === document.body && focused?.isConnected) focused.focus();
}
