import { randomBytes } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { management } from './rabbitmq.ts';

/** Makes an empty vhost for one test, deleted if the test passes and kept if it fails. */
export async function freshVhost(serverUrl: string): Promise<{ url: string; managementUrl: string }> {
  const managementUrl = managementOf(serverUrl);
  const vhost = `test_${randomBytes(6).toString('hex')}`;
  await management(managementUrl, 'PUT', `vhosts/${vhost}`);
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'pass') await management(managementUrl, 'DELETE', `vhosts/${vhost}`);
  });
  const url = new URL(serverUrl);
  url.pathname = `/${vhost}`;
  url.search = '';
  return { url: url.href, managementUrl };
}

/** URL of the management API: that of the variable, else at the port that the server's URL names. */
function managementOf(serverUrl: string): string {
  const given = process.env.FEEDCTL_TEST_BROKER_MANAGEMENT_URL;
  if (given) return given;
  const { username, password, hostname, searchParams } = new URL(serverUrl);
  const who = username ? `${username}:${password}` : 'guest:guest';
  return `http://${who}@${hostname}:${searchParams.get('management') ?? 15672}`;
}
