import { distance } from 'fastest-levenshtein';
import { listContexts } from '../engine/config/contexts.ts';
import { isJsonObject } from '../engine/util/json.ts';

const PREFIX = 'FEEDCTL_';
/** Maximum share of wrong letters in a name that is still taken for a typing error. */
const MAX_DISTANCE = 0.5;
/** Variables that Kubernetes sets in pods for a service whose name begins with `feedctl`. */
const SERVICE = /_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/;
const SERVICE_URL = /^(tcp|udp|sctp):\/\//;

/**
 * Returns a warning for each variable that begins with `FEEDCTL_` and has no effect, with the known name that
 * is most like it. Variables that a context reads and those of the project's tests are known too.
 */
export async function unknownVariables(
  env: NodeJS.ProcessEnv,
  known: ReadonlySet<string>,
): Promise<string[]> {
  const unknown = Object.keys(env).filter(
    (name) =>
      name.startsWith(PREFIX) &&
      !known.has(name) &&
      !name.startsWith(`${PREFIX}TEST_`) &&
      !SERVICE.test(name) &&
      !SERVICE_URL.test(env[name] ?? ''),
  );
  if (unknown.length === 0) return [];
  const inContexts = await variablesOfContexts(env);
  return unknown
    .filter((name) => !inContexts.has(name))
    .map((name) => {
      const meant = nearest(name, known);
      const hint = meant ? ` Meant is perhaps ${meant}.` : '';
      return `${name} has no effect: feedctl has no such variable.${hint}`;
    });
}

/** Returns the variables that contexts take values from. A file that cannot be read has none. */
async function variablesOfContexts(env: NodeJS.ProcessEnv): Promise<Set<string>> {
  const contexts = await listContexts(env).catch(() => []);
  const values = contexts.flatMap(({ context }) => Object.values<unknown>({ ...context }));
  return new Set(values.flatMap((value) => (isJsonObject(value) ? [String(value.env)] : [])));
}

function nearest(name: string, known: ReadonlySet<string>): string | undefined {
  let best: { name: string; share: number } | undefined;
  for (const one of known) {
    const share = distance(name.toUpperCase(), one) / (one.length - PREFIX.length);
    if (share <= MAX_DISTANCE && (!best || share < best.share)) best = { name: one, share };
  }
  return best?.name;
}
