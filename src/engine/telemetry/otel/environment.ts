import { accessSync, constants } from 'node:fs';
import { FeedctlError, messageOf } from '../../model/errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Maximum length of a resource attribute. The library drops all attributes if one is longer. */
const ATTRIBUTE_CHARACTERS = 255;

/** Returns the value of a variable, or the first of `values` if it is not set. Throws CONFIG_INVALID. */
export function oneOf<const Values extends readonly [string, ...string[]]>(
  env: Environment,
  name: string,
  values: Values,
): Values[number] {
  const text = env[name] || values[0];
  if (!values.includes(text)) throw refused(env, name, values.join(' or '));
  return text;
}

/** Reads a boolean, in capitals or not, as the OpenTelemetry standard does. Throws CONFIG_INVALID. */
export const isTrue = (env: Environment, name: string): boolean =>
  oneOf({ [name]: env[name]?.toLowerCase() }, name, ['false', 'true']) === 'true';

/** Returns whether callers decide what is sampled, which no standard variable says. Throws CONFIG_INVALID. */
export const trustsCallers = (env: Environment): boolean => isTrue(env, 'FEEDCTL_TRUST_TRACEPARENT');

/** Returns a whole number above 0, or undefined if the variable is not set. Throws CONFIG_INVALID. */
export function wholeNumber(env: Environment, name: string): number | undefined {
  const text = env[name];
  if (!text) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(text)) throw refused(env, name, 'a whole number above 0');
  return Number(text);
}

/** Returns the name that applies of an exporter's variable: the one for traces, if it is set. */
export function otlpName(env: Environment, end: string): string {
  const forTraces = `OTEL_EXPORTER_OTLP_TRACES_${end}`;
  return env[forTraces] ? forTraces : `OTEL_EXPORTER_OTLP_${end}`;
}

/**
 * Refuses values that the library would ignore, with a warning or silently. Returns the origin of the
 * collector, which holds no secret. Throws CONFIG_INVALID.
 */
export function checkVariables(env: Environment): string {
  const endpoint = otlpName(env, 'ENDPOINT');
  const url = URL.parse(env[endpoint] ?? '');
  if (!url || !/^https?:$/.test(url.protocol))
    throw refused(env, endpoint, 'a URL such as http://collector:4318');
  oneOf(env, otlpName(env, 'COMPRESSION'), ['none', 'gzip']);
  wholeNumber(env, otlpName(env, 'TIMEOUT'));
  checkFile(env, otlpName(env, 'CERTIFICATE'));
  checkFile(env, otlpName(env, 'CLIENT_CERTIFICATE'));
  checkFile(env, otlpName(env, 'CLIENT_KEY'));
  for (const name of ['OTEL_EXPORTER_OTLP_HEADERS', 'OTEL_EXPORTER_OTLP_TRACES_HEADERS'])
    checkPairs(env, name, isHeader);
  checkPairs(env, 'OTEL_RESOURCE_ATTRIBUTES', isAttribute);
  return url.origin;
}

const refused = (env: Environment, name: string, allowed: string) =>
  new FeedctlError('CONFIG_INVALID', `${name} is ${JSON.stringify(env[name])}; it must be ${allowed}`);

function checkFile(env: Environment, name: string): void {
  const path = env[name];
  if (!path) return;
  try {
    accessSync(path, constants.R_OK);
  } catch (error) {
    throw refused(env, name, `a file that can be read: ${messageOf(error)}`);
  }
}

/** https://www.rfc-editor.org/rfc/rfc9110#name-field-names, with a value of visible characters and spaces. */
const isHeader = (key: string, value: string): boolean =>
  /^[\w!#$%&'*+.^`|~-]+$/.test(key) && /^[\x20-\x7e]+$/.test(value);

const isAttribute = (key: string, value: string, raw: string): boolean =>
  !raw.includes('=') && key.length <= ATTRIBUTE_CHARACTERS && value.length <= ATTRIBUTE_CHARACTERS;

/**
 * Refuses a list of `key=value` that the library would drop in part or as a whole. The message does
 * not repeat the list, which may hold secrets. Throws CONFIG_INVALID.
 */
function checkPairs(
  env: Environment,
  name: string,
  allows: (key: string, value: string, rawValue: string) => boolean,
): void {
  const entries = (env[name] ?? '').split(',').filter((entry) => entry.trim());
  const wrong = entries.findIndex((entry) => {
    const at = entry.indexOf('=');
    const key = decoded(entry.slice(0, Math.max(at, 0)));
    const raw = entry.slice(at + 1);
    const value = decoded(raw);
    return !key || value === undefined || !allows(key, value, raw);
  });
  if (wrong < 0) return;
  throw new FeedctlError(
    'CONFIG_INVALID',
    `entry ${wrong + 1} of ${entries.length} in ${name} is invalid; ` +
      'the variable must be key=value,key=value, percent-encoded',
  );
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text.trim());
  } catch {
    return undefined;
  }
}
