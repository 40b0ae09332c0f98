import { createSign, generateKeyPairSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAllDocuments, stringify } from 'yaml';
import { openKubernetes } from '../../src/engine/kubernetes/client.ts';
import type { KubeObject } from '../../src/engine/kubernetes/object.ts';
import { freePorts, supervise } from './servers.ts';

const ISSUER = 'https://kubernetes.test';
const START_MS = 120_000;

/**
 * Returns the directory of kube-apiserver and etcd. Without them it returns undefined and writes
 * why to stderr.
 */
export function kubernetesAssets(): string | undefined {
  const assets = process.env.KUBEBUILDER_ASSETS;
  const missing = assets
    ? ['kube-apiserver', 'etcd'].filter((name) => !existsSync(join(assets, name)))
    : ['KUBEBUILDER_ASSETS'];
  if (missing.length === 0) return assets;
  const reason = `no Kubernetes API server: ${missing.join(', ')} missing (CONTRIBUTING.md)`;
  process.stderr.write(`\n*** TESTS SKIPPED, ${reason} ***\n\n`);
  return undefined;
}

/** Users of the API server: `nobody` has no permission. */
export type User = 'admin' | 'nobody' | 'expired';

export interface KubernetesServer {
  readonly url: string;
  /** Writes a kubeconfig of a user, or of a token, and returns its path. */
  kubeconfig(as: User | { token: string }, namespace?: string): Promise<string>;
  /** Returns a token as a pod of this service account has it. */
  tokenOf(account: KubeObject): string;
  stop(): Promise<void>;
}

/**
 * Starts etcd and an API server, without controllers and nodes: applied objects stay as they are.
 */
export async function startKubernetes(assets: string, directory: string): Promise<KubernetesServer> {
  const [etcdPort, peerPort, port] = await freePorts(3);
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const file = async (name: string, content: string) => {
    const path = join(directory, name);
    await writeFile(path, content, { mode: 0o600 });
    return path;
  };
  const pem = String(privateKey.export({ type: 'pkcs1', format: 'pem' }));
  const key = await file('accounts.key', pem);
  const pub = await file('accounts.pub', String(publicKey.export({ type: 'spki', format: 'pem' })));
  const tokens = await file('tokens.csv', 'admin-token,admin,1,system:masters\nnobody-token,nobody,2,\n');
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const etcd = supervise(join(assets, 'etcd'), [
    `--data-dir=${join(directory, 'etcd')}`,
    '--unsafe-no-fsync',
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
  ]);
  const apiserver = supervise(join(assets, 'kube-apiserver'), [
    `--etcd-servers=${etcdUrl}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${port}`,
    `--cert-dir=${directory}`,
    `--service-account-issuer=${ISSUER}`,
    `--service-account-key-file=${pub}`,
    `--service-account-signing-key-file=${key}`,
    '--service-cluster-ip-range=10.0.0.0/24',
    '--authorization-mode=RBAC',
    // The plugin needs a controller that creates tokens for pods.
    '--disable-admission-plugins=ServiceAccount',
    `--token-auth-file=${tokens}`,
  ]);
  const url = `https://127.0.0.1:${port}`;
  const authority = join(directory, 'apiserver.crt');
  const now = Math.floor(Date.now() / 1_000);
  const known: Record<User, string> = {
    admin: 'admin-token',
    nobody: 'nobody-token',
    expired: signed(pem, {
      iss: ISSUER,
      aud: [ISSUER],
      sub: 'system:serviceaccount:default:default',
      iat: now - 7_200,
      nbf: now - 7_200,
      exp: now - 3_600,
    }),
  };
  let configs = 0;
  const server: KubernetesServer = {
    url,
    async kubeconfig(as, namespace) {
      const token = typeof as === 'string' ? known[as] : as.token;
      return file(
        `config${configs++}`,
        stringify({
          apiVersion: 'v1',
          kind: 'Config',
          'current-context': 'test',
          clusters: [{ name: 'test', cluster: { server: url, 'certificate-authority': authority } }],
          users: [{ name: 'me', user: { token } }],
          contexts: [
            { name: 'test', context: { cluster: 'test', user: 'me', ...(namespace && { namespace }) } },
          ],
        }),
      );
    },
    tokenOf: ({ metadata: { name, namespace, uid } }) =>
      signed(pem, {
        iss: ISSUER,
        aud: [ISSUER],
        sub: `system:serviceaccount:${namespace}:${name}`,
        iat: now,
        nbf: now,
        exp: now + 3_600,
        'kubernetes.io': { namespace, serviceaccount: { name, uid } },
      }),
    async stop() {
      await apiserver.stop();
      await etcd.stop();
    },
  };
  try {
    await ready(server, apiserver.exited);
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function ready(server: KubernetesServer, exited: Promise<void>): Promise<void> {
  let ended = false;
  void exited.then(() => {
    ended = true;
  });
  const config = await server.kubeconfig('admin');
  for (const until = Date.now() + START_MS; ; await sleep(200)) {
    if (ended || Date.now() > until) throw new Error('the API server has not started');
    try {
      const kubernetes = await kubernetesOf(config);
      // The server creates its default roles and namespaces after it begins to answer.
      const there = await kubernetes.exists('/api/v1/namespaces/default');
      await kubernetes.close();
      if (there) return;
    } catch {}
  }
}

/** Opens the API with a kubeconfig. */
export async function kubernetesOf(kubeconfig: string): ReturnType<typeof openKubernetes> {
  const before = process.env.KUBECONFIG;
  process.env.KUBECONFIG = kubeconfig;
  try {
    return await openKubernetes();
  } finally {
    if (before === undefined) delete process.env.KUBECONFIG;
    else process.env.KUBECONFIG = before;
  }
}

/** Returns a JSON Web Token, signed like those of service accounts. */
function signed(key: string, claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const content = `${part({ alg: 'RS256' })}.${part(claims)}`;
  return `${content}.${createSign('RSA-SHA256').update(content).sign(key).toString('base64url')}`;
}

/**
 * Returns the definitions of custom kinds: those in the directory FEEDCTL_TEST_CRDS, else small
 * ones.
 */
export async function customResources(): Promise<KubeObject[]> {
  const directory = process.env.FEEDCTL_TEST_CRDS;
  if (!directory)
    return SMALL_CRDS.map(([group, version, kind, plural]) => smallCrd(group, version, kind, plural));
  const files = (await readdir(directory)).filter((name) => /\.ya?ml$/.test(name));
  const texts = await Promise.all(files.map((name) => readFile(join(directory, name), 'utf8')));
  return texts.flatMap((text) =>
    [...parseAllDocuments(text)].map((document) => document.toJS() as KubeObject),
  );
}

const SMALL_CRDS = [
  ['keda.sh', 'v1alpha1', 'ScaledObject', 'scaledobjects'],
  ['keda.sh', 'v1alpha1', 'TriggerAuthentication', 'triggerauthentications'],
  ['monitoring.coreos.com', 'v1', 'ServiceMonitor', 'servicemonitors'],
  ['monitoring.coreos.com', 'v1', 'PrometheusRule', 'prometheusrules'],
] as const;

/** Returns a definition that keeps unknown fields. A ScaledObject has to name its target. */
function smallCrd(group: string, version: string, kind: string, plural: string): KubeObject {
  const open = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  const spec =
    kind === 'ScaledObject'
      ? {
          ...open,
          required: ['scaleTargetRef', 'triggers'],
          properties: { minReplicaCount: { type: 'integer' }, maxReplicaCount: { type: 'integer' } },
        }
      : open;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: { openAPIV3Schema: { type: 'object', properties: { spec, status: open } } },
        },
      ],
    },
  };
}
