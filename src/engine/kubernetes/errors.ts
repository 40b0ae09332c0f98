import { FeedctlError, messageOf } from '../model/errors.ts';
import { isTlsError } from '../util/tls.ts';

/** What the API answers instead of an object. */
interface Status {
  readonly kind?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly details?: {
    readonly name?: string;
    readonly kind?: string;
    readonly causes?: readonly { reason?: string; message?: string; field?: string }[];
  };
}

/** A field that somebody else owns. */
export interface FieldConflict {
  /** .spec.replicas */
  readonly field: string;
  /** Who owns it: `kubectl-edit`, or `kube-controller-manager (scale)` through a subresource. */
  readonly manager: string;
}

/** A refusal of the API: its error also has what the API said in detail. */
export class KubeError extends FeedctlError {
  readonly status: number;
  readonly conflicts: readonly FieldConflict[];
  /** Fields that cannot be changed any more. */
  readonly immutable: readonly string[];

  constructor(error: FeedctlError, status: number, details: Status['details']) {
    super(error.code, error.message, { cause: error.cause, suggestions: [...error.suggestions] });
    this.status = status;
    const causes = details?.causes ?? [];
    this.conflicts = causes
      .filter(({ reason }) => reason === 'FieldManagerConflict')
      .map(({ field = '', message = '' }) => ({ field, manager: managerOf(message) }));
    this.immutable = causes
      .filter(({ message }) => /field is immutable/.test(message ?? ''))
      .map(({ field = '' }) => field);
  }
}

function managerOf(message: string): string {
  const [, manager, , subresource] =
    /^conflict with "([^"]*)"( with subresource "([^"]*)")?/.exec(message) ?? [];
  if (manager === undefined) return message;
  return subresource === undefined ? manager : `${manager} (${subresource})`;
}

/** The error for an answer that is none. `path`: what was asked for. */
export function apiError(status: number, text: string, at: { server: string; path: string }): KubeError {
  const said = statusOf(text);
  const message = said.message || `${at.server} answers ${status} to ${at.path}`;
  return new KubeError(errorOf(status, said, message, at), status, said.details);
}

function errorOf(status: number, said: Status, message: string, at: { server: string }): FeedctlError {
  const { details } = said;
  if (status === 401)
    return new FeedctlError('KUBE_UNAUTHORIZED', `${at.server} does not accept the credentials: ${message}`);
  // A namespace that is being deleted takes nothing new.
  if (status === 403 && details?.causes?.some(({ reason }) => reason === 'NamespaceTerminating'))
    return new FeedctlError('KUBE_NAMESPACE_MISSING', message);
  if (status === 403) return new FeedctlError('KUBE_FORBIDDEN', message);
  if (status === 404 && details?.kind === 'namespaces')
    return new FeedctlError('KUBE_NAMESPACE_MISSING', `there is no namespace ${details.name}`);
  if (status === 404) return new FeedctlError('KUBE_NOT_FOUND', message);
  if (status === 409) return new FeedctlError('KUBE_CONFLICT', message);
  // A field that no schema has is, to a server-side apply, a failure of the server.
  if (status === 500 && /typed patch object|field not declared in schema/.test(message))
    return new FeedctlError('KUBE_REFUSED', message);
  if (status === 429 || status >= 500)
    return new FeedctlError('KUBE_UNREACHABLE', `${at.server} answers ${status}: ${message}`);
  return new FeedctlError('KUBE_REFUSED', message);
}

function statusOf(text: string): Status {
  try {
    const said = JSON.parse(text) as Status;
    return said?.kind === 'Status' ? said : {};
  } catch {
    return {};
  }
}

/** The error for a request without an answer. */
export function unreachable(server: string, error: unknown, late: boolean): FeedctlError {
  const why = late ? 'no answer came in time' : messageOf(error);
  const suggestions = isTlsError(error)
    ? [
        'Name the authority of its certificate in the kubeconfig (certificate-authority), and the name the certificate is for.',
      ]
    : [];
  return new FeedctlError('KUBE_UNREACHABLE', `${server} cannot be reached: ${why}`, {
    cause: error,
    ...(suggestions.length > 0 && { suggestions }),
  });
}
