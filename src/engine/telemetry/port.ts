import { createServer } from 'node:net';
import { listenError } from './metricsServer.ts';

/**
 * Checks that a server can listen, before work that a taken port would make useless. Another program may
 * take the port after that. Throws PORT_TAKEN or CONFIG_INVALID.
 */
export async function checkPort(address: { host: string; port: number }): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((done, failed) => {
      server.once('error', (error) => failed(listenError(error, address)));
      server.listen(address.port, address.host, done);
    });
  } finally {
    await new Promise((closed) => server.close(closed));
  }
}
