import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import { parseId } from '../model/ids.ts';
import { checkPostText, checkText } from '../model/post.ts';
import { statusOf } from './problems.ts';
import { ID_PATTERN, POST_PATTERN, TEXT_PATTERN } from './routes/schemas.ts';

/** An error of the validator, with its option `verbose`. */
interface Violation {
  readonly keyword: string;
  readonly instancePath: string;
  readonly params: Record<string, unknown>;
  readonly message?: string | undefined;
  readonly data?: unknown;
  readonly parentSchema?: { readonly pattern?: unknown; readonly description?: unknown };
}

/** Keywords whose own message would show a pattern or a schema. */
const DESCRIBED = ['pattern', 'not'];

/**
 * Returns the error for a request that its schema refuses, with the code that commands print for the
 * same id or text.
 */
export function invalidRequest(violations: readonly Violation[], part: string): Error {
  const [{ keyword, instancePath, message, data, parentSchema }] = violations as readonly [Violation];
  const known = typeof data === 'string' ? codedError(parentSchema?.pattern, data) : undefined;
  if (known) return Object.assign(known, { statusCode: statusOf(known.code) });
  const { description } = parentSchema ?? {};
  const why = description && DESCRIBED.includes(keyword) ? `must be ${description}` : message;
  return new FeedctlError('USAGE', `${part}${instancePath} ${why}`);
}

/** Each pattern allows what the check behind it accepts. */
function codedError(pattern: unknown, text: string): FeedctlError | undefined {
  try {
    if (pattern === POST_PATTERN) checkPostText(text);
    else if (pattern === TEXT_PATTERN) checkText(text, 'text');
    else if (pattern === ID_PATTERN && /^\d{1,16}$/.test(text)) parseId(text, 'user or post');
  } catch (error) {
    if (isFeedctlError(error)) return error;
    throw error;
  }
  return undefined;
}
