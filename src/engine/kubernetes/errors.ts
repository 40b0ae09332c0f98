import { FeedctlError, messageOf } from '../model/errors.ts';
import { isTlsError } from '../util/tls.ts';

/** The API's response to a failed request. */
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

/** A field that another manager owns. */
export interface FieldConflict {
  /** Path of the field: .spec.replicas */
  readonly field: string;
  /** Its owner: `kubectl-edit`, or `kube-controller-manager (scale)` through a subresource. */
  readonly manager: string;
}

/** A refusal by the API, with the details of its response. */
export class KubeError extends FeedctlError {
  readonly status: number;
  readonly conflicts: readonly FieldConflict[];
  /** Paths of fields that cannot be changed in place. */
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

/** Returns the error for a response with status 300 or above. `at` names the request. */
export function apiError(status: number, text: string, at: { server: string; path: string }): KubeError {
  const response = statusOf(text);
  const message = response.message || `${at.server} answers ${status} to ${at.path}`;
  return new KubeError(errorOf(status, response, message, at), status, response.details);
}

function errorOf(status: number, { details }: Status, message: string, at: { server: string }): FeedctlError {
  if (status === 401)
    return new FeedctlError('KUBE_UNAUTHORIZED', `${at.server} does not accept the credentials: ${message}`);
  // A namespace that is being deleted accepts no new objects.
  if (status === 403 && details?.causes?.some(({ reason }) => reason === 'NamespaceTerminating'))
    return new FeedctlError('KUBE_NAMESPACE_MISSING', message);
  if (status === 403) return new FeedctlError('KUBE_FORBIDDEN', message);
  if (status === 404 && details?.kind === 'namespaces')
    return new FeedctlError('KUBE_NAMESPACE_MISSING', `there is no namespace ${details.name}`);
  if (status === 404) return new FeedctlError('KUBE_NOT_FOUND', message);
  if (status === 409) return new FeedctlError('KUBE_CONFLICT', message);
  // Server-side apply answers 500 if a field is in no schema.
  if (status === 500 && /typed patch object|field not declared in schema/.test(message))
    return new FeedctlError('KUBE_REFUSED', message);
  if (status === 429 || status >= 500)
    return new FeedctlError('KUBE_UNREACHABLE', `${at.server} answers ${status}: ${message}`);
  return new FeedctlError('KUBE_REFUSED', message);
}

function statusOf(text: string): Status {
  try {
    const response = JSON.parse(text) as Status;
    return response?.kind === 'Status' ? response : {};
  } catch {
    return {};
  }
}

/** Returns the error for a request without a response. */
export function unreachable(server: string, error: unknown, timedOut: boolean): FeedctlError {
  const why = timedOut ? 'the request timed out' : messageOf(error);
  const suggestions = isTlsError(error)
    ? [
        'Name the authority of its certificate in the kubeconfig (certificate-authority), and use the host ' +
          'name of the certificate.',
      ]
    : [];
  return new FeedctlError('KUBE_UNREACHABLE', `${server} cannot be reached: ${why}`, {
    cause: error,
    ...(suggestions.length > 0 && { suggestions }),
  });
}
