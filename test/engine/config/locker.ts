import { setTimeout as sleep } from 'node:timers/promises';
import { lockCluster } from '../../../src/engine/config/clusterState.ts';

/** A process that locks a directory at a moment and then holds it: `locker.ts DIRECTORY UNIX-MS`. */
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
