#!/usr/bin/env node
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major > 22 || (major === 22 && minor >= 12)) {
  if (process.env.FEEDCTL_REEXEC && process.channel) {
    // The launcher below was killed: without it nobody would forward signals, so go down with it.
    process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
    process.on('SIGINT', answerLauncher);
    process.channel.unref();
  }
  // A colour library takes CI for a terminal; text in a pipe or a file has no colour unless it is asked for.
  if (!process.stdout.isTTY && !process.stderr.isTTY && !process.env.FORCE_COLOR)
    process.env.NO_COLOR ??= '1';
  const { main } = await import('../dist/cli/main.js');
  await main(process.argv.slice(2), import.meta.url);
} else {
  relaunch();
}

/** Tells the launcher that Ctrl-C has come here too. A listener alone would keep the process from ending by it. */
function answerLauncher() {
  if (process.connected) process.send('SIGINT');
  if (process.listenerCount('SIGINT') > 1) return;
  process.off('SIGINT', answerLauncher);
  process.kill(process.pid, 'SIGINT');
}

/** A clone brings a newer Node as the dev dependency `node`; it works even where the machine's own is old. */
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
  // Ctrl-C reaches the child through the terminal, and it says so; only what is sent to this process alone is passed
  // on, or the child would take it for the second signal, which forces.
  const ANSWER_MS = 300;
  let answeredAt = Number.NEGATIVE_INFINITY;
  let passing;
  child.on('message', () => {
    answeredAt = performance.now();
    clearTimeout(passing);
  });
  process.on('SIGINT', () => {
    if (performance.now() - answeredAt < ANSWER_MS) return;
    clearTimeout(passing);
    passing = setTimeout(() => child.kill('SIGINT'), ANSWER_MS);
  });
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => {
    if (signal) process.removeAllListeners(signal).kill(process.pid, signal);
    else process.exit(code ?? 1);
  });
}
