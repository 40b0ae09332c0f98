import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect, onTestFinished } from 'vitest';
import { type ServerKind, supervise } from './servers.ts';

const BINARY = '/usr/bin/tmux';
const START_MS = 20_000;

/** Terminals for tests, which type keys and read the screen. */
export const tmux: ServerKind = {
  name: 'tmux',
  variable: 'FEEDCTL_TEST_TMUX_SOCKET',
  debianPackage: 'tmux',
  installed: () => existsSync(BINARY),
  async start(directory) {
    const socket = join(directory, 'tmux');
    const env = { TERM: 'screen-256color', LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8' };
    const server = supervise(BINARY, ['-S', socket, '-f', '/dev/null', '-D'], { env });
    for (const until = Date.now() + START_MS; Date.now() < until; await sleep(20))
      if (existsSync(socket)) return { url: socket, stop: () => server.stop() };
    await server.stop();
    throw new Error('tmux did not start');
  },
};

const run = promisify(execFile);

export interface Terminal {
  /** Rows of the screen, without trailing blanks. */
  rows(): Promise<string[]>;
  /** Waits until the screen shows the text. */
  shows(what: string | RegExp, timeout?: number): Promise<string>;
  /** Types keys by tmux's names: `q`, `Enter`, `Escape`, `C-c`. */
  type(...keys: string[]): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  /** Evaluates a format of tmux for this terminal. */
  ask(format: string): Promise<string>;
}

let terminals = 0;

/** Opens a terminal that runs `command`, a line of sh, until the test ends. */
export async function openTerminal(
  socket: string,
  command: string,
  options: { columns: number; rows: number; env: Readonly<Record<string, string>> },
): Promise<Terminal> {
  terminals += 1;
  const name = `t${process.pid}-${terminals}`;
  const ask = async (...args: string[]) => (await run(BINARY, ['-S', socket, ...args])).stdout;
  const { columns, rows, env } = options;
  await ask(
    ...['new-session', '-d', '-s', name, '-x', String(columns), '-y', String(rows)],
    ...Object.entries({ LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8', ...env }).flatMap(([key, value]) => [
      '-e',
      `${key}=${value}`,
    ]),
    ...['sh', '-c', command],
  );
  onTestFinished(async () => {
    await ask('kill-session', '-t', name).catch(() => {});
  });
  await ask('set-option', '-t', name, 'status', 'off');
  await ask('resize-window', '-t', name, '-x', String(columns), '-y', String(rows));
  const screen = async () => (await ask('capture-pane', '-p', '-t', name)).replace(/\n$/, '').split('\n');
  return {
    rows: screen,
    async shows(what, timeout = 30_000) {
      let text = '';
      const found = () => (typeof what === 'string' ? text.includes(what) : what.test(text));
      await expect
        .poll(
          async () => {
            text = (await screen()).join('\n');
            return found() ? true : text;
          },
          { timeout, interval: 50 },
        )
        .toBe(true);
      return text;
    },
    async type(...keys) {
      await ask('send-keys', '-t', name, ...keys);
    },
    async resize(width, height) {
      await ask('resize-window', '-t', name, '-x', String(width), '-y', String(height));
    },
    ask: async (format) => (await ask('display-message', '-p', '-t', name, format)).trim(),
  };
}
