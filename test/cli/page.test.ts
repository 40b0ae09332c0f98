import axe from 'axe-core';
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
    await form.getByText('More about me').click();
    await form.getByLabel('Born on').fill('1985-12-10');
    await form.getByLabel('Password').fill('correct horse');
    await form.getByRole('button').click();
    await page.locator('#state[data-state="live"]').waitFor();
    await page.locator('#me', { hasText: firstName }).waitFor();
    const id = (await page.locator('#me-id').textContent())!;
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
  const write = async (person: Person, text: string) => {
    await person.page.locator('#post textarea').fill(text);
    await person.page.locator('#post button').click();
    await person.posts.locator('p').getByText(text, { exact: true }).waitFor();
  };

  /** Returns what the accessibility check finds on a page, in light and in dark colours. */
  async function barriersOf(page: Page): Promise<string[]> {
    const all: string[] = [];
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      // The policy of the page admits no script of others, so the browser evaluates the check.
      await page.evaluate(`${axe.source};0`);
      const found = await page.evaluate<{ id: string; nodes: { html: string }[] }[]>(
        'axe.run().then(({ violations }) => violations)',
      );
      all.push(...found.map(({ id, nodes }) => `${colorScheme}: ${id} ${nodes[0]?.html}`));
    }
    return all;
  }

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
    await write(ada, 'written before the follow');
    const search = bob.page.locator('#search');
    await search.getByLabel('name or user id').fill('ad');
    await search.getByRole('button').click();
    await bob.page.getByRole('button', { name: 'Follow Ada Lovelace' }).first().click();
    await bob.posts.locator('p').getByText('written before the follow', { exact: true }).waitFor();
    await bob.page.locator('#followees li', { hasText: 'Ada Lovelace' }).waitFor();
    const nasty = '<img src=x onerror=document.title=1> & <script>alert(1)</script>';
    for (const text of ['hello, world', nasty]) {
      await write(ada, text);
      await bob.posts.locator('p').getByText(text, { exact: true }).waitFor();
    }
    const all = [nasty, 'hello, world', 'written before the follow'];
    expect(await textsOf(bob)).toEqual(all);
    expect(await textsOf(ada), 'one’s own posts').toEqual(all);
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
    await bob.page.locator('#followees').getByRole('button', { name: 'Unfollow Ada Lovelace' }).click();
    await expect.poll(() => bob.posts.count()).toBe(0);
  });

  test('one’s own post is edited and deleted on the page, by keys too', async () => {
    await write(ada, 'with a mistke');
    const mine = ada.posts.first();
    await mine.getByRole('button', { name: 'Edit' }).press('Enter');
    await mine.getByLabel('Text of the post').fill('without a mistake');
    await mine.getByRole('button', { name: 'Save' }).press('Enter');
    await ada.posts.locator('p').getByText('without a mistake', { exact: true }).waitFor();
    const count = await ada.posts.count();
    await mine.getByRole('button', { name: 'Delete' }).click();
    expect(await ada.posts.count(), 'it asks first').toBe(count);
    await mine.getByRole('button', { name: 'Delete' }).click();
    await expect.poll(() => ada.posts.count()).toBe(count - 1);
    expect(await bob.page.getByRole('button', { name: 'Edit' }).count(), 'of others’ posts').toBe(0);
  });

  test('a reload keeps who is logged in; logging out forgets; a wrong password is told', async () => {
    await ada.page.reload();
    await ada.posts.locator('p').getByText('hello, world', { exact: true }).waitFor();
    await ada.page.locator('#logout').click();
    expect(await ada.state()).toBe('out');
    expect(await ada.page.evaluate(() => sessionStorage.length)).toBe(0);
    const form = ada.page.locator('#login');
    expect(await ada.page.locator('#accounts').textContent(), 'the browser remembers').toContain(
      'Ada Lovelace',
    );
    expect(await barriersOf(ada.page)).toEqual([]);
    const logIn = async (password: string) => {
      await form.getByLabel('Name or user id').fill('Ada Lovelace');
      await form.getByLabel('Password').fill(password);
      await form.getByRole('button').click();
    };
    await logIn('wrong');
    await ada.page.locator('#message:not([hidden])').waitFor();
    await logIn('correct horse');
    await ada.page.locator('#state[data-state="live"]').waitFor();
    expect(await textsOf(ada)).toContain('hello, world');
    expect(await barriersOf(ada.page)).toEqual([]);
  });

  test('operators see the cluster with a token of their own, and users do not', async () => {
    const { token: viewer } = await json<{ token: string }>(['gateway', 'token'], at);
    const { token: user } = await json<{ token: string }>(['user', 'token', ada.id], at);
    const statusOf = async (path: string, token?: string) =>
      (
        await fetch(`http://127.0.0.1:${port}${path}`, {
          headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
        })
      ).status;
    expect(await statusOf('/cluster/snapshot')).toBe(401);
    expect(await statusOf('/cluster/snapshot', user)).toBe(403);
    expect(await statusOf('/cluster/snapshot', viewer)).toBe(200);
    expect(await statusOf('/post/feed', viewer), 'it is no token of a user').toBe(401);
    expect(await statusOf('/admin/connections', viewer), 'it is for the page only').toBe(401);
    const page = await (await browser.newContext()).newPage();
    await page.goto(`http://127.0.0.1:${port}/#/cluster`);
    const form = page.locator('#operator');
    await form.getByLabel('Token of an operator').fill(user);
    await form.getByRole('button').click();
    await page.locator('#message', { hasText: 'for operators' }).waitFor();
    await form.getByLabel('Token of an operator').fill(viewer);
    await form.getByRole('button').click();
    await page
      .locator('#tables td', { hasText: `:${port}` })
      .first()
      .waitFor();
    // The gateways that were killed may be in the list.
    expect(await page.locator('#health').getAttribute('data-health')).toMatch(/^(ok|degraded)$/);
    expect(await barriersOf(page)).toEqual([]);
    await page.getByRole('button', { name: 'Forget the token' }).click();
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  });

  test('on a telephone the feed begins in the first view, and nothing is wider than the screen', async () => {
    await ada.page.setViewportSize({ width: 390, height: 844 });
    await ada.page.reload();
    await ada.posts.first().waitFor();
    const box = (await ada.posts.first().boundingBox())!;
    expect(box.y).toBeLessThan(600);
    const wider = await ada.page.evaluate('document.documentElement.scrollWidth - innerWidth');
    expect(wider).toBeLessThanOrEqual(0);
  });

  test('the documents that the page links to are served', async () => {
    const links = await ada.page.locator('footer a').all();
    expect(links.length).toBeGreaterThan(3);
    for (const link of links) {
      const path = await link.getAttribute('href');
      expect((await fetch(`http://127.0.0.1:${port}${path}`)).status, path!).toBe(200);
    }
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
    const files = paths.filter((path) => path !== 'data:,' && !/^\/page\/\w+\.js$/.test(path));
    expect(files.sort()).toEqual(['/', '/page/style.css']);
  });
});
