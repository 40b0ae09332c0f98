import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { WebSocket } from 'ws';

/** Node's flag for an inspector on a free port, over which another process can collect garbage. */
export const INSPECTED = '--inspect=127.0.0.1:0';

/** Finds the inspector of a process in its stderr. Copies all other lines to this process's stderr. */
export function openInspector(stderr: Readable): { collectGarbage(): Promise<void> } {
  const found = Promise.withResolvers<string>();
  createInterface(stderr)
    .on('line', (line) => {
      const listening = /^Debugger listening on (ws:\/\/\S+)/.exec(line);
      if (listening) found.resolve(listening[1]!);
      else if (!/^(For help, see: |Debugger )/.test(line)) process.stderr.write(`${line}\n`);
    })
    .on('close', () => found.reject(new Error('the process ended')));
  found.promise.catch(() => {});
  return {
    async collectGarbage() {
      const socket = new WebSocket(await found.promise, { perMessageDeflate: false });
      await once(socket, 'open');
      socket.send(JSON.stringify({ id: 1, method: 'HeapProfiler.collectGarbage' }));
      await once(socket, 'message');
      socket.close();
      await once(socket, 'close');
    },
  };
}
