// Makes the pictures of the documentation from the program itself: docs/images/{top.svg,demo.svg,page.png}.
// Needs `npm run build`, tmux and Chromium. Arguments choose pictures: `node scripts/pictures.ts top page`.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium, type Page } from 'playwright-core';
import { Database } from '../src/engine/database/database.ts';
import { signToken } from '../src/engine/gateway/tokens.ts';
import { followFeed } from '../src/engine/live/client.ts';
import { poll } from '../src/engine/util/poll.ts';
import { terminalSvg } from './terminalSvg.ts';

const BINARY = fileURLToPath(new URL('../bin/run.js', import.meta.url));
const IMAGES = fileURLToPath(new URL('../docs/images/', import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const TIMEOUT_MS = 180_000;

/** A few authors make all requests. */
const NO_LIMITS = {
  FEEDCTL_USER_LIMIT: '0',
  FEEDCTL_USER_WRITE_LIMIT: '0',
  FEEDCTL_IP_LIMIT: '0',
  FEEDCTL_IP_UNAUTHENTICATED_LIMIT: '0',
};

/** The environment without settings of feedctl and without a home: pictures name no context or user. */
const environment = (more: Record<string, string> = {}): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  LANG: 'C.UTF-8',
  XDG_CONFIG_HOME: '/nonexistent',
  // `top` begins with the overview, and remembers no pane.
  XDG_STATE_HOME: '/nonexistent',
  FEEDCTL_LOG_LEVEL: 'error',
  ...more,
});

/** Makes a process report this host and an invented user: pictures name neither machine nor person. */
const withHost = (host: string): Record<string, string> => {
  const code = `import os from 'node:os'; import { syncBuiltinESMExports } from 'node:module';
    const user = { ...os.userInfo(), username: 'ops' };
    os.hostname = () => '${host}'; os.userInfo = () => user; syncBuiltinESMExports();`;
  return { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(code)}` };
};

const run = promisify(execFile);
const feedctl = (args: string[], env: Record<string, string> = {}) =>
  run(process.execPath, [BINARY, ...args], { env: environment(env) });

/** Started processes and directories, released in reverse order. */
const releases: (() => Promise<unknown>)[] = [];

async function temporary(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-pictures-'));
  // As root the database runs as another user, who has to enter the directory.
  await chmod(directory, 0o711);
  releases.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

/** Starts a role and returns the JSON value that it prints when it is ready. */
async function startRole(args: string[], env: Record<string, string>): Promise<Record<string, string>> {
  const child = spawn(process.execPath, [BINARY, ...args, '--json'], {
    env: environment({ ...NO_LIMITS, ...env }),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  releases.push(() => stop(child));
  let text = '';
  for await (const chunk of child.stdout!) {
    text += chunk;
    if (!/\n\}\n/.test(text)) continue;
    const ready = JSON.parse(text);
    if (!ready.error) return ready;
  }
  throw new Error(`feedctl ${args.join(' ')} ended: ${text}`);
}

interface LocalCluster {
  readonly dataDir: string;
  readonly gatewayUrl: string;
  readonly db: Database;
}

async function startCluster(host: string): Promise<LocalCluster> {
  const dataDir = join(await temporary(), 'data');
  const args = ['up', '--data-dir', dataDir, '--port', '0'];
  const { gatewayUrl, databaseUrl } = await startRole(args, withHost(host));
  const db = new Database(databaseUrl!, { maxSessions: 2, applicationName: 'pictures' });
  releases.push(() => db.close());
  return { dataDir, gatewayUrl: gatewayUrl!, db };
}

interface Terminal {
  type(...keys: string[]): Promise<void>;
  /** The screen, with escape sequences for colours. */
  screen(): Promise<string>;
  /** Waits until the screen shows the text. */
  shows(text: string | RegExp): Promise<void>;
}

/** Opens a terminal of a new tmux server and runs the command in it. */
async function openTerminal(
  command: string,
  size: { columns: number; rows: number },
  env: Record<string, string>,
): Promise<Terminal> {
  const socket = join(await temporary(), 'tmux');
  const tmux = async (...args: string[]) =>
    (await run('tmux', ['-S', socket, '-f', '/dev/null', ...args])).stdout;
  const variables = Object.entries(environment(env)).flatMap(([key, value]) => ['-e', `${key}=${value}`]);
  const [columns, rows] = [String(size.columns), String(size.rows)];
  await tmux('new-session', '-d', '-x', columns, '-y', rows, ...variables, 'sh', '-c', command);
  releases.push(() => tmux('kill-server'));
  await tmux('set-option', '-g', 'status', 'off');
  await tmux('resize-window', '-x', columns, '-y', rows);
  const screen = () => tmux('capture-pane', '-e', '-p');
  return {
    screen,
    type: async (...keys) => {
      await tmux('send-keys', ...keys);
    },
    shows: async (text) => {
      const shown = async () => (await tmux('capture-pane', '-p')).match(text);
      if (!(await poll(shown, { everyMs: 200, timeoutMs: TIMEOUT_MS })))
        throw new Error(`the terminal does not show ${text}:\n${await screen()}`);
    },
  };
}

async function call(url: string, token: string | undefined, method: string, path: string, body?: object) {
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response.json() as Promise<Record<string, string>>;
}

/** Posts of a real time of day rise and fall: posts a second at this second of the load. */
const postsPerSecond = (second: number): number =>
  140 + 60 * Math.sin(second / 14) + 30 * Math.sin(second / 5.3) + (second % 41 < 6 ? 90 : 0);

/** Posts over HTTP as these users until the signal aborts. */
async function keepPosting(
  urls: readonly string[],
  tokens: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const startedAt = performance.now();
  let posted = 0;
  while (!signal.aborted) {
    const second = (performance.now() - startedAt) / 1_000;
    const count = Math.max(1, Math.round(postsPerSecond(second) / 20));
    const post = (n: number) =>
      call(urls[n % urls.length]!, tokens[n % tokens.length], 'POST', '/post/create', { text: `post ${n}` });
    await Promise.all([sleep(50), ...Array.from({ length: count }, (_, i) => post(posted + i))]);
    posted += count;
  }
}

async function drawTop(): Promise<void> {
  const cluster = await startCluster('feeds-1');
  const at = ['--data-dir', cluster.dataDir];
  const urls = [cluster.gatewayUrl];
  const { db } = cluster;
  await startRole(['worker', 'start', ...at], withHost('feeds-2'));
  urls.push((await startRole(['gateway', 'start', ...at, '--port', '0'], withHost('feeds-2'))).gatewayUrl!);
  await feedctl(
    ['seed', 'generate', ...at, '--users', '4000', '--follows', '20-200', '--posts', '1-2'],
    withHost('feeds-1'),
  );
  const { rows } = await db.query<{ id: number }>(
    "select id from users where push_state = 'push' and follower_count > 60 order by id limit 400",
  );
  const tokens = await Promise.all(rows.map(({ id }) => signToken(db, id)));
  const readers = await Promise.all(
    Array.from({ length: 240 }, async (_, i) =>
      followFeed(urls[i % urls.length]!, await signToken(db, i + 1), () => {}),
    ),
  );
  const ending = new AbortController();
  const posting = keepPosting(urls, tokens, ending.signal);
  releases.push(async () => {
    ending.abort();
    await posting.catch(() => {});
    for (const reader of readers) reader.close();
  });
  const size = { columns: 110, rows: 32 };
  const terminal = await openTerminal(
    `"${process.execPath}" "${BINARY}" top --data-dir "${cluster.dataDir}"`,
    size,
    {},
  );
  // Sparklines have a value every 5 s.
  await sleep(150_000);
  const rebuilding = feedctl(['feed', 'rebuild', '--all', ...at], withHost('feeds-1'));
  await terminal.shows(/feed rebuild.*[1-9][\d,]* of/);
  await writeFile(
    join(IMAGES, 'top.svg'),
    terminalSvg(await terminal.screen(), { title: 'feedctl top', ...size }),
  );
  await rebuilding;
  await terminal.type('q');
}

async function drawDemo(): Promise<void> {
  const size = { columns: 92, rows: 42 };
  const command = `printf '$ feedctl demo\\n'; "${process.execPath}" "${BINARY}" demo; exec sleep 600`;
  const terminal = await openTerminal(command, size, {});
  await terminal.shows('Every feed is as it should be.');
  await writeFile(
    join(IMAGES, 'demo.svg'),
    terminalSvg(await terminal.screen(), { title: 'feedctl demo', ...size }),
  );
}

const PEOPLE = [
  ['Mira', 'Halden'],
  ['Greta', 'Solberg'],
  ['Tomas', 'Brandt'],
  ['Lena', 'Okoro'],
  ['Ivo', 'Castell'],
] as const;
/** Index of the author, and the text. */
const POSTS: readonly (readonly [number, string])[] = [
  [3, 'Soup on Thursday, as always. Bring bread.'],
  [1, 'The ferry is late again, but the coffee is good.'],
  [4, 'Ripped out 400 lines today. Nothing broke.'],
  [2, 'Rain all morning; the garden is grateful.'],
  [1, 'Does anyone have a spare ticket for Saturday?'],
  [3, 'Sunrise over the harbour, no filter needed.'],
];
const LIVE_POST = 'This post just arrived over the WebSocket.';

async function drawPage(): Promise<void> {
  const { gatewayUrl } = await startCluster('feeds-1');
  const password = 'correct horse battery staple';
  const people: { id: string; token: string }[] = [];
  for (const [first_name, second_name] of PEOPLE) {
    const person = { first_name, second_name, birthdate: '1970-01-01', password };
    const { user_id: id } = await call(gatewayUrl, undefined, 'POST', '/user/register', person);
    const { token } = await call(gatewayUrl, undefined, 'POST', '/login', { id, password });
    people.push({ id: id!, token: token! });
  }
  const [reader, ...authors] = people as [(typeof people)[0], ...typeof people];
  for (const { id } of authors) await call(gatewayUrl, reader.token, 'PUT', `/friend/set/${id}`);
  for (const [author, text] of POSTS) {
    await call(gatewayUrl, people[author]!.token, 'POST', '/post/create', { text });
    await sleep(300);
  }
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  releases.push(() => browser.close());
  const page: Page = await browser.newPage({
    viewport: { width: 900, height: 690 },
    deviceScaleFactor: 1.5,
    locale: 'en-GB',
    timezoneId: 'UTC',
  });
  await page.goto(gatewayUrl);
  await page.fill('#login [name=id]', reader.id);
  await page.fill('#login [name=password]', password);
  await page.click('#login button');
  await page.waitForSelector('#state[data-state=live]');
  await page
    .locator('#feed li')
    .nth(POSTS.length - 1)
    .waitFor();
  await page.fill('#search [name=first_name]', 'G');
  await page.click('#search button');
  await page.waitForSelector('#found li');
  await call(gatewayUrl, people[2]!.token, 'POST', '/post/create', { text: LIVE_POST });
  await page.locator('#feed li', { hasText: LIVE_POST }).waitFor();
  // Names of authors are requests of their own.
  await page.waitForLoadState('networkidle');
  await page.screenshot({ path: join(IMAGES, 'page.png') });
}

const PICTURES: Record<string, () => Promise<void>> = { top: drawTop, demo: drawDemo, page: drawPage };

for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(PICTURES)) {
  try {
    const draw = PICTURES[name];
    if (!draw) throw new Error(`no picture ${name}: pass some of ${Object.keys(PICTURES).join(', ')}`);
    await draw();
  } finally {
    for (const release of releases.splice(0).reverse()) await release().catch(() => {});
  }
}
