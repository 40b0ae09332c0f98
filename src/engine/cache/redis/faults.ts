import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import { isTlsError } from '../../util/tls.ts';

/** Some versions have these replies inside an error of a script. */
const CLUSTER_DOWN = /\bCLUSTERDOWN\b|cluster is down/;
const SLOT_MOVED = /\b(MOVED|ASK|TRYAGAIN)\b|non local key/;
const READ_ONLY = /\b(READONLY|LOADING|MASTERDOWN|MISCONF|NOREPLICAS)\b/;
const FORBIDDEN = /\b(NOPERM|NOAUTH)\b|ACL failure in script|user executing the script can't/;

/** Returns whether a server's state forbids a command, which may pass. */
export const isChanged = (error: unknown): boolean =>
  [READ_ONLY, SLOT_MOVED, CLUSTER_DOWN].some((replies) => replies.test(messageOf(error)));

/** Returns whether a server refuses this client or its writes, so that another one may be needed. */
export const isRefusal = (error: unknown): boolean => isChanged(error) || FORBIDDEN.test(messageOf(error));

/** Explains an error of a driver. `who`: begins the message, such as "the cache redis://host". */
export function explain(error: unknown, who: string): FeedctlError {
  if (isFeedctlError(error)) return error;
  const text = messageOf(error);
  const options = { cause: error };
  if (text.startsWith('NOAUTH'))
    return new FeedctlError('CACHE_REFUSED', `${who} requires a password`, options);
  if (isTlsError(error))
    return new FeedctlError('CACHE_TLS_FAILED', `no TLS with ${who}: ${text.trim()}`, options);
  if (CLUSTER_DOWN.test(text))
    return new FeedctlError('CACHE_REFUSED', `${who} is down: ${text}`, {
      ...options,
      suggestions: ['Look for masters that are missing: `redis-cli --cluster check HOST:PORT`.'],
    });
  if (isChanged(error))
    return new FeedctlError('CACHE_REFUSED', `${who} refuses commands: ${text}`, {
      ...options,
      suggestions: ['Make the URL lead to the server that takes writes, and read the log of that server.'],
    });
  if (
    FORBIDDEN.test(text) ||
    /^(WRONGPASS|DENIED)|invalid password|without any password configured/i.test(text)
  )
    return new FeedctlError('CACHE_REFUSED', `${who} refused this user: ${text}`, options);
  if (/protocol error|Got .* as reply type/i.test(text))
    return new FeedctlError('CACHE_UNSUITABLE', `${who} is no Redis: ${text}`, options);
  return new FeedctlError('CACHE_UNREACHABLE', `${who} fails: ${text}`, options);
}
