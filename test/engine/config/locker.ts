import { setTimeout as sleep } from 'node:timers/promises';
import { lockCluster } from '../../../src/engine/config/clusterState.ts';

/** Locks a directory at a given time and keeps the lock: `locker.ts DIRECTORY UNIX-MS`. */
const [directory, at] = process.argv.slice(2);
await sleep(Math.max(0, Number(at) - Date.now() - 5));
while (Date.now() < Number(at));
try {
  await lockCluster(directory!, 'test');
  process.stdout.write('won\n');
} catch (error) {
  process.stdout.write(`${(error as { code: string }).code}\n`);
}
setInterval(() => {}, 1 << 30);
