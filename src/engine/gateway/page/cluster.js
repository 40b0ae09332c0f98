// The tab for operators: what `feedctl top` shows, from one snapshot a second.
import { call } from './api.js';
import { Chart } from './charts.js';
import { $, make, onSubmit, setText, show } from './dom.js';
import { bytesText, countText, msText, percentText, perSecondText, secondsText } from './figures.js';

const INTERVAL_MS = 1_000;
const MAX_BACKOFF_MS = 15_000;
/** Values of latency and sockets that this page has seen, for the same five minutes as the rates. */
const SEEN_STEP_SECONDS = 5;
const MAX_SEEN = 61;
const KEY = 'operatorToken';

const charts = {
  created: new Chart('Posts', perSecondText),
  deliveries: new Chart('Deliveries to feeds', perSecondText),
  pushed: new Chart('Pushed to sockets', perSecondText),
  latency: new Chart('Latency p50 / p99', msText),
  backlog: new Chart('Messages in queues', countText),
  sockets: new Chart('Open sockets', countText),
};
$('charts').append(...Object.values(charts).map((chart) => chart.element));

/** Returns a table that is made again from rows. A column: title, text of a row, whether it is a number. */
function tableOf(title, columns) {
  const body = make('tbody');
  const none = make('p', { className: 'hint' }, 'none');
  const heading = make('h2', {}, title);
  const scroll = make(
    'div',
    { className: 'scroll', tabIndex: 0, role: 'region', ariaLabel: title },
    make(
      'table',
      {},
      make(
        'thead',
        {},
        make(
          'tr',
          {},
          ...columns.map(([name, , isNumber]) =>
            make('th', { scope: 'col', className: isNumber ? 'number' : '' }, name),
          ),
        ),
      ),
      body,
    ),
  );
  $('tables').append(make('section', { className: 'card' }, heading, scroll, none));
  return (rows, total) => {
    scroll.hidden = !rows?.length;
    none.hidden = !scroll.hidden;
    setText(none, rows ? 'none' : 'no answer yet');
    setText(heading, total > (rows?.length ?? 0) ? `${title}: the first ${rows.length} of ${total}` : title);
    body.replaceChildren(
      ...(rows ?? []).map((row) =>
        make(
          'tr',
          {},
          ...columns.map(([, of, isNumber]) => make('td', { className: isNumber ? 'number' : '' }, of(row))),
        ),
      ),
    );
  };
}

const readiness = ({ ready }) =>
  make('span', { className: ready ? 'good' : 'bad' }, ready ? 'ready' : 'NOT READY');
const tables = {
  queues: tableOf('Queues', [
    ['queue', (row) => row.queue],
    ['waiting', (row) => countText(row.waiting), true],
    ['in flight', (row) => countText(row.inFlight), true],
    ['in', (row) => perSecondText(row.inPerSecond), true],
    ['out', (row) => perSecondText(row.outPerSecond), true],
    ['oldest', (row) => (row.waiting + row.inFlight > 0 ? msText(row.oldestAgeMs) : '–'), true],
    ['dead letters', (row) => countText(row.deadLetters), true],
    ['state', (row) => (row.paused ? make('span', { className: 'bad' }, 'PAUSED') : 'runs')],
  ]),
  workers: tableOf('Workers', [
    ['worker', (row) => row.id.slice(0, 8)],
    ['state', readiness],
    ['host', (row) => row.host],
    ['version', (row) => row.version],
    ['deliveries', (row) => perSecondText(row.deliveriesPerSecond), true],
    ['CPU', (row) => percentText(row.cpu), true],
    ['memory', (row) => bytesText(row.memoryBytes), true],
  ]),
  gateways: tableOf('Gateways', [
    ['gateway', (row) => row.id.slice(0, 8)],
    ['state', readiness],
    ['URL', (row) => row.url],
    ['sockets', (row) => countText(row.sockets), true],
    ['pushed', (row) => perSecondText(row.pushedPerSecond), true],
    ['CPU', (row) => percentText(row.cpu), true],
    ['memory', (row) => bytesText(row.memoryBytes), true],
  ]),
  operations: tableOf('Operations in progress', [
    ['id', (row) => String(row.id), true],
    ['kind', (row) => row.kind],
    ['of', (row) => row.key],
    ['done', (row) => countText(row.done), true],
    ['of', (row) => (row.total === null ? '–' : `${countText(row.total)} ${row.unit ?? ''}`), true],
    ['left', (row) => secondsText(row.etaSeconds), true],
  ]),
  warnings: tableOf('Warnings and errors', [
    ['last', (row) => new Date(row.lastAt).toLocaleTimeString()],
    ['level', (row) => row.level],
    ['process', (row) => `${row.role} ${row.host}`],
    ['code', (row) => row.code ?? ''],
    ['text', (row) => row.text],
    ['times', (row) => countText(row.count), true],
  ]),
};

/** Latency and sockets as this page has seen them, one value in five seconds. */
let seen = [];

function note(snapshot) {
  const step = Math.floor(Date.parse(snapshot.takenAt) / 1000 / SEEN_STEP_SECONDS);
  const { latencyMs, sockets } = snapshot;
  const value = { step, p50: latencyMs?.p50 ?? null, p99: latencyMs?.p99 ?? null, sockets };
  if (seen.at(-1)?.step === step) seen.pop();
  seen = [...seen, value].slice(-MAX_SEEN);
}

function render(snapshot) {
  note(snapshot);
  const { health, series, rates, latencyMs, backlog, backlogSeries } = snapshot;
  $('health').dataset.health = health.state;
  setText($('health'), { ok: 'all is well', degraded: 'needs a look', down: 'down' }[health.state]);
  const problems = health.problems.length > 0 ? health.problems : ['No problems.'];
  if ([...$('problems').children].map((item) => item.textContent).join() !== problems.join())
    $('problems').replaceChildren(...problems.map((text) => make('li', {}, text)));
  for (const name of ['created', 'deliveries', 'pushed']) {
    const perSecond = (series?.[name] ?? []).map((count) => count / series.stepSeconds);
    charts[name].draw({
      lines: [perSecond],
      now: rates ? perSecondText(rates[name]) : '–',
      stepSeconds: series?.stepSeconds ?? 0,
    });
  }
  charts.latency.draw({
    lines: [seen.map(({ p50 }) => p50), seen.map(({ p99 }) => p99)],
    now: latencyMs ? `${msText(latencyMs.p50)} / ${msText(latencyMs.p99)}` : 'no posts',
    stepSeconds: SEEN_STEP_SECONDS,
  });
  charts.backlog.draw({ lines: [backlogSeries], now: backlogText(backlog), stepSeconds: SEEN_STEP_SECONDS });
  charts.sockets.draw({
    lines: [seen.map(({ sockets }) => sockets)],
    now: countText(snapshot.sockets),
    stepSeconds: SEEN_STEP_SECONDS,
  });
  for (const name of ['queues', 'workers', 'gateways'])
    tables[name](snapshot[name]?.rows, snapshot[name]?.total);
  for (const name of ['operations', 'warnings']) tables[name](snapshot[name], snapshot[name]?.length);
}

function backlogText(backlog) {
  if (!backlog) return '–';
  const count = countText(backlog.messages);
  if (backlog.stuck) return `${count}, not getting shorter`;
  return backlog.etaSeconds ? `${count}, ${secondsText(backlog.etaSeconds)} left` : count;
}

let watching;

/** Asks for a snapshot once a second while the tab is open. */
async function watch(signal) {
  let failures = 0;
  while (!signal.aborted) {
    let pauseMs = INTERVAL_MS;
    // A page in the background asks nothing, because it shows nothing.
    if (!document.hidden) {
      try {
        const snapshot = await call('GET', '/cluster/snapshot', { token: sessionStorage.getItem(KEY) });
        if (signal.aborted) return;
        failures = 0;
        render(snapshot);
        $('dashboard').hidden = false;
        const where = snapshot.production ? `${snapshot.context}, in production` : snapshot.context;
        setText($('cluster-state'), `live: ${where}`);
      } catch (error) {
        if (signal.aborted) return;
        if (error.status >= 400 && error.status < 500 && error.status !== 429) {
          leave();
          show(error.message);
          return;
        }
        failures += 1;
        pauseMs = Math.max(error.retryAfterMs || 0, Math.min(MAX_BACKOFF_MS, INTERVAL_MS * 2 ** failures));
        setText($('cluster-state'), `no answer (${error.message}); trying again`);
      }
    }
    await new Promise((done) => {
      const timer = setTimeout(done, pauseMs);
      signal.addEventListener(
        'abort',
        () => {
          clearTimeout(timer);
          done();
        },
        { once: true },
      );
    });
  }
}

/** Begins to watch when the tab is opened, and ends it when another one is. */
export function beginCluster(isOpen) {
  const token = sessionStorage.getItem(KEY);
  $('operator').hidden = token !== null;
  $('cluster-leave').hidden = token === null;
  if (!isOpen || token === null) {
    watching?.abort();
    watching = undefined;
    return;
  }
  if (watching) return;
  watching = new AbortController();
  void watch(watching.signal);
}

function leave() {
  sessionStorage.removeItem(KEY);
  seen = [];
  $('dashboard').hidden = true;
  setText($('cluster-state'), '');
  beginCluster(true);
}

onSubmit($('operator'), async ({ token }) => {
  sessionStorage.setItem(KEY, token.trim());
  $('operator').reset();
  setText($('cluster-state'), 'asking the cluster …');
  beginCluster(true);
});
$('cluster-leave').addEventListener('click', () => {
  leave();
  $('operator').elements.token.focus();
});
