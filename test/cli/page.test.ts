import { type Browser, chromium, type Locator, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { emptyDatabase, json, type Running, sql, start } from '../support/cli.ts';
import { findServer } from '../support/server.ts';
import { freePorts } from '../support/servers.ts';

const browserUrl = await findServer('chromium');

/** A user in a separate browser. */
interface Person {
  readonly page: Page;
  readonly id: string;
  /** Errors of the browser's console, including violations of the page's policy. */
  readonly complaints: string[];
  readonly sockets: string[];
  readonly state: () => Promise<string | null>;
  readonly posts: Locator;
}

describe.skipIf(!browserUrl)('the page at / in a browser', () => {
  let browser: Browser;
  let at: { env: Record<string, string> };
  let worker: Running;
  let gateway: Running;
  let port: number;
  let ada: Person;
  let bob: Person;

  const startGateway = async () => {
    gateway = start(['gateway', 'start', '--port', String(port), '--json'], at);
    await gateway.printed(/"ready": true[\s\S]*\}\n/);
  };

  async function register(firstName: string): Promise<Person> {
    const page = await (await browser.newContext()).newPage();
    const complaints: string[] = [];
    const sockets: string[] = [];
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    page.on('websocket', (socket) => sockets.push(socket.url()));
    await page.goto(`http://127.0.0.1:${port}/`);
    const form = page.locator('#register');
    await form.getByLabel('First name').fill(firstName);
    await form.getByLabel('Second name').fill('Lovelace');
    await form.getByLabel('Born on').fill('1985-12-10');
    await form.getByLabel('Password').fill('correct horse');
    await form.getByRole('button').click();
    await page.locator('#state[data-state="live"]').waitFor();
    const id = /\((\d+)\)/.exec((await page.locator('#me', { hasText: firstName }).textContent())!)![1]!;
    return {
      page,
      id,
      complaints,
      sockets,
      state: () => page.locator('#state').getAttribute('data-state'),
      posts: page.locator('#feed li'),
    };
  }

  const textsOf = (person: Person) => person.posts.locator('p').allTextContents();

  beforeAll(async () => {
    at = { env: { FEEDCTL_DATABASE_URL: await emptyDatabase('cli_page') } };
    [port] = (await freePorts(1)) as [number];
    await json(['migrate'], at);
    worker = start(['worker', 'start', '--json'], at);
    await Promise.all([worker.printed(/"ready": true/), startGateway()]);
    browser = await chromium.connectOverCDP(browserUrl!);
    ada = await register('Ada');
    bob = await register('Bob');
  });
  afterAll(async () => {
    for (const role of [worker, gateway]) role?.child.kill('SIGTERM');
    for (const context of browser?.contexts() ?? []) await context.close();
  });

  test('a post of a followed author arrives by itself, as text and nothing else', async () => {
    const search = bob.page.locator('#search');
    await search.getByLabel('First name').fill('Ad');
    await search.getByRole('button').click();
    await bob.page.locator('#found li', { hasText: 'Ada Lovelace' }).getByRole('button').click();
    const nasty = '<img src=x onerror=document.title=1> & <script>alert(1)</script>';
    for (const text of ['hello, world', nasty]) {
      await ada.page.locator('#post textarea').fill(text);
      await ada.page.locator('#post button').click();
      await bob.posts.locator('p').getByText(text, { exact: true }).waitFor();
    }
    expect(await textsOf(bob)).toEqual([nasty, 'hello, world']);
    expect(await textsOf(ada), 'one’s own posts').toEqual([nasty, 'hello, world']);
    expect(await bob.posts.first().getAttribute('data-live')).toBe('');
    await bob.posts.first().getByText('Ada Lovelace').waitFor();
    expect(await bob.page.locator('#feed img, #feed script').count()).toBe(0);
    expect(await bob.page.title()).toBe('feedctl');
    for (const person of [ada, bob]) expect(person.complaints).toEqual([]);
  });

  test('it says that the gateway is gone, and goes on where it was when it is back: nothing is missing or twice', async () => {
    gateway.child.kill('SIGKILL');
    await gateway.ended;
    await expect.poll(bob.state).toMatch(/waiting|connecting/);
    for (const text of ['while it was away', 'and once more'])
      await json(['post', 'create', ada.id, text], at);
    await startGateway();
    await bob.posts.locator('p').getByText('and once more', { exact: true }).waitFor();
    await expect.poll(bob.state).toBe('live');
    expect((await textsOf(bob)).slice(0, 3)).toEqual([
      'and once more',
      'while it was away',
      expect.stringContaining('<img'),
    ]);
    expect(new Set(await textsOf(bob)).size).toBe(await bob.posts.count());
    expect(await bob.posts.first().getAttribute('data-live'), 'it came over the socket').toBe('');
    expect(bob.sockets[0]).not.toContain('after=');
    expect(bob.sockets.at(-1)).toContain('after=');
    for (const url of bob.sockets) expect(url, 'no token in any URL').not.toContain('token=');
  });

  test('an edited post shows its new text, also if the edit was made without a connection', async () => {
    const edited = bob.posts.filter({ hasText: 'while it was away' });
    const id = (await edited.getAttribute('data-id'))!;
    const { token } = await json<{ token: string }>(['user', 'token', ada.id], at);
    const answer = await fetch(`http://127.0.0.1:${port}/post/update`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ id, text: '<b>edited</b>' }),
    });
    expect(answer.status).toBe(200);
    const texts = bob.posts.locator('p');
    await texts.getByText('<b>edited</b>', { exact: true }).waitFor();
    expect(await bob.page.locator('#feed b').count()).toBe(0);
    gateway.child.kill('SIGKILL');
    await gateway.ended;
    await sql(
      at.env.FEEDCTL_DATABASE_URL!,
      `update posts set body = 'edited again', version = version + 1 where id = ${id}`,
    );
    await startGateway();
    await texts.getByText('edited again', { exact: true }).waitFor();
    expect(await bob.page.locator(`#feed [data-id="${id}"]`).count()).toBe(1);
  });

  test('a deleted post goes away, and so do those of somebody who is not followed any more', async () => {
    const deleted = bob.posts.filter({ hasText: 'and once more' });
    await json(['post', 'delete', (await deleted.getAttribute('data-id'))!, '--yes'], at);
    await deleted.waitFor({ state: 'detached' });
    const follow = bob.page.locator('#follow');
    await follow.getByLabel('User id').fill(ada.id);
    await follow.getByRole('button', { name: 'Unfollow' }).click();
    await expect.poll(() => bob.posts.count()).toBe(0);
  });

  test('a reload keeps who is logged in; logging out forgets; a wrong password is told', async () => {
    await ada.page.reload();
    await ada.posts.locator('p').getByText('hello, world', { exact: true }).waitFor();
    await ada.page.locator('#logout').click();
    expect(await ada.state()).toBe('out');
    expect(await ada.page.evaluate(() => sessionStorage.length)).toBe(0);
    const form = ada.page.locator('#login');
    const logIn = async (password: string) => {
      await form.getByLabel('User id').fill(ada.id);
      await form.getByLabel('Password').fill(password);
      await form.getByRole('button').click();
    };
    await logIn('wrong');
    await ada.page.locator('#message:not([hidden])').waitFor();
    await logIn('correct horse');
    await ada.page.locator('#state[data-state="live"]').waitFor();
    expect(await textsOf(ada)).toContain('hello, world');
  });

  test('the page is served with a strict policy, and asks no server but its gateway', async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/`);
    const policy = answer.headers.get('content-security-policy');
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    const page = await (await browser.newContext()).newPage();
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.goto(`http://127.0.0.1:${port}/`);
    await page.locator('#login').waitFor();
    const paths = asked.map((url) => url.replace(`http://127.0.0.1:${port}`, ''));
    expect(paths.filter((path) => path !== 'data:,').sort()).toEqual(['/', '/page.css', '/page.js']);
  });
});
