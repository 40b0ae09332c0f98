import { execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

export interface Certificates {
  /** A private authority, and another one that has signed no certificate. */
  readonly ca: string;
  readonly otherCa: string;
  /** For `localhost` and 127.0.0.1. */
  readonly server: { readonly cert: string; readonly key: string };
  readonly client: { readonly cert: string; readonly key: string };
}

/** Returns whether `openssl` is installed. */
export function canCertify(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Makes PEM files that are removed after the test. */
export async function certificates(): Promise<Certificates> {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-tls-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const path = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore', cwd: directory });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const authority = (name: string) =>
    openssl(
      'req',
      '-x509',
      ...newKey,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
      '-subj',
      `/CN=${name}`,
    );
  const signed = (name: string, names: string) => {
    openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    writeFileSync(path(`${name}.ext`), `subjectAltName=${names}\n`);
    const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', `${name}.ext`];
    openssl('x509', '-req', '-in', `${name}.csr`, ...by, '-out', `${name}.pem`);
    return { cert: path(`${name}.pem`), key: path(`${name}.key`) };
  };
  authority('ca');
  authority('other');
  const server = signed('server', 'DNS:localhost,IP:127.0.0.1');
  const client = signed('client', 'DNS:feedctl');
  // Servers run as other users.
  chmodSync(directory, 0o755);
  for (const file of [server.key, client.key]) chmodSync(file, 0o644);
  return { ca: path('ca.pem'), otherCa: path('other.pem'), server, client };
}
