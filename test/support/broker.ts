import { randomBytes } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { management } from './rabbitmq.ts';

/** An empty vhost of one test's own on that server, deleted when the test has passed and kept when it failed. */
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

/** A server that the tests started names its management port; for others it is set, or the usual one. */
function managementOf(serverUrl: string): string {
  const given = process.env.FEEDCTL_TEST_BROKER_MANAGEMENT_URL;
  if (given) return given;
  const { username, password, hostname, searchParams } = new URL(serverUrl);
  const who = username ? `${username}:${password}` : 'guest:guest';
  return `http://${who}@${hostname}:${searchParams.get('management') ?? 15672}`;
}
