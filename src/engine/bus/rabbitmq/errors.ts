import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import { isTlsError } from '../../util/tls.ts';
import type { Endpoint } from './endpoints.ts';

/** Explains an error of a connection or a channel to a broker. Returns a FeedctlError unchanged. */
export function brokerError(error: unknown, { shown, user, vhost }: Endpoint): FeedctlError {
  if (isFeedctlError(error)) return error;
  const text = messageOf(error);
  const options = (...suggestions: string[]) => ({ cause: error, suggestions });
  if (/ACCESS_REFUSED - Login|no_login|mechanism .* is not provided/i.test(text)) {
    return new FeedctlError('BROKER_REFUSED', `the broker ${shown} refuses user ${user} or the password`, {
      cause: error,
    });
  }
  if (/NOT_ALLOWED - vhost .* not found/.test(text)) {
    return new FeedctlError(
      'BROKER_VHOST_UNKNOWN',
      `the broker ${shown} has no virtual host ${vhost}`,
      options(`Create it with \`rabbitmqctl add_vhost ${vhost}\`, or correct the URL.`),
    );
  }
  if (/NOT_ALLOWED - access to vhost .* refused for user '[^']*'$/.test(text)) {
    return new FeedctlError(
      'BROKER_REFUSED',
      `user ${user} may not use the virtual host ${vhost} of the broker ${shown}: ${text}`,
      options(`Give access with \`rabbitmqctl set_permissions -p ${vhost} ${user} ".*" ".*" ".*"\`.`),
    );
  }
  // The limit of connections is reached, or the virtual host is down.
  if (/NOT_ALLOWED/.test(text)) {
    return new FeedctlError(
      'BROKER_REFUSED',
      `the broker ${shown} refuses user ${user}: ${text}`,
      options(
        'See `rabbitmqctl list_vhost_limits`, `list_user_limits` and `list_vhosts name cluster_state`.',
      ),
    );
  }
  if (/unknown exchange type/.test(text)) {
    return new FeedctlError(
      'BROKER_PLUGIN_MISSING',
      `the broker ${shown} lacks the plugin rabbitmq_consistent_hash_exchange`,
      { cause: error },
    );
  }
  if (/inequivalent arg|PRECONDITION.FAILED.*(cannot redeclare|invalid arg)/i.test(text)) {
    const what = /PRECONDITION_FAILED - ([^"]*)/.exec(text)?.[1] ?? text;
    return new FeedctlError(
      'BROKER_TOPOLOGY_MISMATCH',
      `the broker ${shown} has an exchange or a queue of that name with other properties: ${what}`,
      { cause: error },
    );
  }
  if (/ACCESS.REFUSED/.test(text)) {
    return new FeedctlError('BROKER_REFUSED', `user ${user} lacks a permission in ${vhost}: ${text}`, {
      ...options(
        `Give it with \`rabbitmqctl set_permissions -p ${vhost} ${user} ".*" ".*" ".*"\`, ` +
          'or run `feedctl migrate` as a user who has it.',
      ),
    });
  }
  if (isTlsError(error)) {
    return new FeedctlError('BROKER_TLS_FAILED', `no TLS with the broker ${shown}: ${text.trim()}`, {
      cause: error,
    });
  }
  return new FeedctlError('BROKER_UNREACHABLE', `cannot reach the broker ${shown}: ${text}`, {
    cause: error,
  });
}
