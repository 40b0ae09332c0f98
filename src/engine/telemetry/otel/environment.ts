import { FeedctlError } from '../../model/errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** The value of a variable, that of `values` which comes first where it is not set. Throws CONFIG_INVALID. */
export function oneOf(env: Environment, name: string, values: readonly [string, ...string[]]): string {
  const text = env[name] || values[0];
  if (!values.includes(text))
    throw new FeedctlError('CONFIG_INVALID', `${name} is ${text}; it is ${values.join(' or ')}`);
  return text;
}

/** As the standard has it, in capitals or not. Throws CONFIG_INVALID. */
export const isTrue = (env: Environment, name: string): boolean =>
  oneOf({ [name]: env[name]?.toLowerCase() }, name, ['false', 'true']) === 'true';

/** Who may decide what is sampled: of that the standard says nothing. Throws CONFIG_INVALID. */
export const trustsCallers = (env: Environment): boolean => isTrue(env, 'FEEDCTL_TRUST_TRACEPARENT');

/**
 * Refuses a list of `key=value` of which the library would leave something out and say nothing. What is wrong in it may be
 * secret: it is not repeated. Throws CONFIG_INVALID.
 */
export function checkPairs(
  env: Environment,
  name: string,
  allows: (key: string, value: string) => boolean,
): void {
  const entries = (env[name] ?? '').split(',').filter((entry) => entry.trim());
  const wrong = entries.findIndex((entry) => {
    const at = entry.indexOf('=');
    const key = decoded(entry.slice(0, Math.max(at, 0)));
    const value = decoded(entry.slice(at + 1));
    return !key || value === undefined || !allows(key, value);
  });
  if (wrong >= 0)
    throw new FeedctlError(
      'CONFIG_INVALID',
      `${name} is key=value,key=value, percent-encoded; number ${wrong + 1} of its ${entries.length} is not, or cannot be sent`,
    );
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text.trim());
  } catch {
    return undefined;
  }
}
