import { withoutPassword } from '../../database/url.ts';
import { messageOf } from '../../model/errors.ts';
import type { Endpoint } from './endpoints.ts';

const MANAGEMENT_MS = 3_000;

export interface Policy {
  readonly name: string;
  readonly pattern: string;
  readonly 'apply-to': string;
  readonly priority: number;
  readonly definition: Readonly<Record<string, unknown>>;
}

/** A queue or an exchange as it exists at the broker. */
export interface Declared {
  readonly name: string;
  /** Of a queue: quorum, classic or stream. */
  readonly type?: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  /** Names of the policies that apply. */
  readonly policy?: string | null;
  readonly operator_policy?: string | null;
}

export interface Binding {
  readonly source: string;
  readonly destination: string;
}

export interface Shovel {
  readonly name: string;
  readonly value: Readonly<Record<string, unknown>>;
}

/** What only the management API shows of a virtual host. */
export interface Management {
  readonly policies: readonly Policy[];
  readonly operatorPolicies: readonly Policy[];
  readonly queues: readonly Declared[];
  readonly exchanges: readonly Declared[];
  readonly bindings: readonly Binding[];
  readonly shovels: readonly Shovel[];
}

/** Reads the management API, which may be disabled. Returns a text if it cannot be read. */
export async function readManagement(
  endpoint: Endpoint,
  given: string | undefined,
): Promise<Management | string> {
  const { protocol, hostname, username, password } = endpoint.connect;
  const base = new URL(
    given ?? (protocol === 'amqps' ? `https://${hostname}:15671` : `http://${hostname}:15672`),
  );
  const user = decodeURIComponent(base.username) || username;
  const secret = base.username ? decodeURIComponent(base.password) : password;
  const vhost = encodeURIComponent(endpoint.vhost);
  const ask = async <T>(kind: string, columns?: string): Promise<T> => {
    const answer = await fetch(`${base.origin}/api/${kind}/${vhost}${columns ? `?columns=${columns}` : ''}`, {
      headers: { authorization: `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}` },
      signal: AbortSignal.timeout(MANAGEMENT_MS),
    });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    return (await answer.json()) as T;
  };
  try {
    return {
      policies: await ask('policies'),
      operatorPolicies: await ask('operator-policies'),
      queues: await ask('queues', 'name,type,arguments,policy,operator_policy'),
      exchanges: await ask('exchanges', 'name,arguments,policy'),
      bindings: await ask('bindings', 'source,destination'),
      shovels: await ask('parameters/shovel'),
    };
  } catch (error) {
    return `policies not checked: ${withoutPassword(base.origin)}: ${messageOf(error)}`;
  }
}
