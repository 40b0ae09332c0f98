import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts, type ServerKind, supervise } from './servers.ts';

const BINARIES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const START_MS = 30_000;
const findBinary = () => BINARIES.find((path) => existsSync(path));

/** A headless browser for the suites, controlled over the DevTools protocol. */
export const chromium: ServerKind = {
  name: 'chromium',
  variable: 'FEEDCTL_TEST_CHROMIUM_URL',
  debianPackage: 'chromium',
  installed: () => findBinary() !== undefined,
  async start(directory) {
    const [port] = await freePorts(1);
    const url = `http://127.0.0.1:${port}`;
    const server = supervise(findBinary()!, [
      '--headless=new',
      `--remote-debugging-port=${port}`,
      `--user-data-dir=${join(directory, 'profile')}`,
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--no-first-run',
      // The sandbox refuses root, and needs rights that containers lack.
      '--no-sandbox',
    ]);
    for (const until = Date.now() + START_MS; Date.now() < until; await sleep(50)) {
      const answer = await fetch(`${url}/json/version`).catch(() => undefined);
      if (answer?.ok) return { url, stop: () => server.stop() };
    }
    await server.stop();
    throw new Error(`chromium on port ${port} did not start`);
  },
};
