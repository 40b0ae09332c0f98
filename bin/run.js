#!/usr/bin/env node
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import nodeModule from 'node:module';
import { homedir, userInfo } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Ctrl-C at a terminal reaches the child too. The child reports it within this time. */
const ANSWER_MS = 300;

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major > 22 || (major === 22 && minor >= 12)) {
  if (process.env.FEEDCTL_REEXEC && process.channel) followLauncher();
  // A colour library takes CI for a terminal. Text in a pipe or a file has colours only on request.
  if (!process.stdout.isTTY && !process.stderr.isTTY && !process.env.FORCE_COLOR)
    process.env.NO_COLOR ??= '1';
  nameUser();
  speedUp();
  const [{ main }, { watchOutput }] = await Promise.all([
    import('../dist/cli/main.js'),
    import('../dist/ui/output.js'),
  ]);
  watchOutput(process.stdout);
  await main(process.argv.slice(2), import.meta.url);
} else {
  relaunch();
}

/**
 * Completes the environment of a user id that has no entry in the list of users, as containers have it. The
 * system then knows neither its shell nor its home, and oclif and other libraries fail when they ask.
 */
function nameUser() {
  try {
    userInfo();
  } catch {
    process.env.SHELL ||= '/bin/sh';
  }
  // An empty variable would make paths below it relative to the current directory.
  if (process.env.HOME === '') delete process.env.HOME;
  try {
    homedir();
  } catch {
    process.env.HOME = '/';
  }
}

/** Saves 15 of the 90 ms that `--help` takes. */
function speedUp() {
  // oclif would load a library to check the version of Node, which is checked above.
  process.env.OCLIF_DISABLE_ENGINE_WARNING ??= '1';
  // Compiled code is kept in the user's own directory: other users can write to /tmp.
  const { XDG_CACHE_HOME: caches = '', HOME: home = '' } = process.env;
  const directory = caches || (home && join(home, '.cache'));
  if (isAbsolute(directory)) nodeModule.enableCompileCache?.(join(directory, 'feedctl'));
}

/** Ends with the launcher: without it, signals would not be forwarded. */
function followLauncher() {
  process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  process.on('SIGINT', answerLauncher);
  process.channel.unref();
}

/** Reports Ctrl-C to the launcher. Then the process ends by it, unless it has another listener. */
function answerLauncher() {
  if (process.connected) process.send('SIGINT');
  if (process.listenerCount('SIGINT') > 1) return;
  process.off('SIGINT', answerLauncher);
  process.kill(process.pid, 'SIGINT');
}

/** Runs feedctl with the dev dependency `node`, for a clone on a machine whose own Node is too old. */
function relaunch() {
  const bundled = fileURLToPath(new URL('../node_modules/node/bin/node', import.meta.url));
  if (process.env.FEEDCTL_REEXEC || !existsSync(bundled)) {
    process.stderr.write(`feedctl needs Node 22.12 or newer; this is ${process.version}.\n`);
    process.exit(1);
  }
  const child = spawn(bundled, process.argv.slice(1), {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, FEEDCTL_REEXEC: '1' },
  });
  forwardSignals(child);
  child.on('exit', (code, signal) => {
    if (signal) process.removeAllListeners(signal).kill(process.pid, signal);
    else process.exit(code ?? 1);
  });
}

/**
 * Forwards a SIGINT that only this process received. One that the child reports is dropped: the child would
 * take it for the second signal, which forces.
 */
function forwardSignals(child) {
  let answeredAt = Number.NEGATIVE_INFINITY;
  let forwarding;
  child.on('message', () => {
    answeredAt = performance.now();
    clearTimeout(forwarding);
  });
  process.on('SIGINT', () => {
    if (performance.now() - answeredAt < ANSWER_MS) return;
    clearTimeout(forwarding);
    forwarding = setTimeout(() => child.kill('SIGINT'), ANSWER_MS);
  });
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
}
