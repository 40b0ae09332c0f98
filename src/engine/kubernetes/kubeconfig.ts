import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node';
import { FeedctlError, messageOf } from '../model/errors.ts';

/** The directory in which Kubernetes mounts a pod's service account. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * Returns the namespace of the pod that this runs in; undefined elsewhere, and in pods that get no
 * token.
 */
export async function namespaceOfPod(directory = SERVICE_ACCOUNT): Promise<string | undefined> {
  const read = (name: string) => readFile(join(directory, name), 'utf8').catch(() => '');
  const [token, namespace] = [await read('token'), await read('namespace')];
  return token ? namespace.trim() || undefined : undefined;
}

/**
 * Loads the kubeconfig (KUBECONFIG, else ~/.kube/config), or in a pod its service account, into
 * `config`. `context` selects another context than the current one. Throws KUBE_CONFIG_INVALID.
 */
export function loadKubeconfig(config: KubeConfig, context: string | undefined): KubeConfig {
  try {
    config.loadFromDefault();
  } catch (error) {
    throw invalid(`the kubeconfig cannot be read: ${withoutExcerpt(error)}`);
  }
  // Without a kubeconfig the library falls back to http://localhost:8080.
  if (config.getCurrentContext() === 'loaded-context')
    throw invalid('there is no kubeconfig: neither KUBECONFIG nor ~/.kube/config, and this is no pod');
  if (context !== undefined) {
    const names = config.getContexts().map(({ name }) => name);
    if (!names.includes(context))
      throw invalid(
        `the kubeconfig has no context ${JSON.stringify(context)}; it has ${names.join(', ') || 'none'}`,
      );
    config.setCurrentContext(context);
  }
  const current = config.getCurrentContext();
  if (!current) throw invalid('the kubeconfig has no current context');
  if (!config.getCurrentCluster() || !config.getCurrentUser())
    throw invalid(`the kubeconfig's context ${current} has no cluster or no user`);
  return config;
}

const invalid = (message: string): FeedctlError => new FeedctlError('KUBE_CONFIG_INVALID', message);

/**
 * Returns the message without the lines around the fault: the YAML library quotes them, and they
 * may hold secrets.
 */
function withoutExcerpt(error: unknown): string {
  const { reason, mark } = error as { reason?: string; mark?: { line: number; column: number } };
  return reason && mark ? `${reason} (line ${mark.line + 1}, column ${mark.column + 1})` : messageOf(error);
}
