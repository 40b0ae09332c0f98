import fc from 'fast-check';
import { generateSync } from 'json-schema-faker';
import type { Operation, Schema } from './openapiDocument.ts';
import type { RawRequest } from './rawRequest.ts';

/** A request as its parts, which mutations change. */
export interface Draft {
  method: string;
  path: Record<string, string>;
  query: [name: string, value: string][];
  headers: Record<string, string>;
  /** Fields with their JSON texts; undefined: no body. */
  fields: [name: string, json: string][] | undefined;
  /** Replaces the body. */
  body?: string | Buffer;
}

/** A change to a request, as data that a failure prints. */
export type Mutation =
  | { readonly set: string; readonly json: string }
  | { readonly drop: number }
  | { readonly body: string | Uint8Array }
  | { readonly query: string; readonly value: string }
  | { readonly path: string }
  | { readonly header: string; readonly value: string }
  | { readonly method: string };

/** Names of fields and parameters, with those that objects inherit. */
const NAMES = [
  ...['id', 'text', 'version', 'password', 'first_name', 'last_name', 'age', 'birthdate', 'limit', 'before'],
  ...['offset', 'after', '', '__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'then'],
  ...['limit[]', 'first_name[x]', 'user_id', 'author_user_id', 'dryRun', 'passwordHash'],
];
const NUMBERS = [
  ...['0', '-0', '-1', '1.5', '1e3', '1e308', '1e400', '-1e400', '5e-324', '2147483648', '4294967296'],
  ...['9007199254740991', '9007199254740992', '9223372036854775808', '18446744073709551616', '9'.repeat(400)],
];
const TEXTS = ['', ' ', 'null', 'true', '\0', '\u202e', '\ufeff', 'ſ', '😀'.repeat(50), 'a'.repeat(6_000)];
/** Depth of nested values: far below a body of 64 KiB. */
const DEPTHS = [1, 20, 1_000, 5_000];
const nested = fc
  .constantFrom(...DEPTHS)
  .chain((depth) =>
    fc.constantFrom(
      '['.repeat(depth) + ']'.repeat(depth),
      `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`,
      `{"__proto__":${'['.repeat(depth)}${']'.repeat(depth)}}`,
      `{"constructor":{"prototype":{"polluted":${depth}}}}`,
    ),
  );
const jsonText = fc.oneof(
  fc.constantFrom('null', 'true', 'false', '[]', '{}', '""', '[null]', '["a"]', ...NUMBERS),
  fc.constantFrom(...TEXTS, ...NUMBERS).map((text) => JSON.stringify(text)),
  fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.stringify(value)),
  nested,
);
const TYPES = [
  ...['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'image/png'],
  ...['application/json; charset=utf-16', 'application/json;charset=latin1', 'application/xml', 'x', '/'],
  ...['application/problem+json', 'APPLICATION/JSON', 'application/json, application/json', '*/*'],
];
const BODIES = ['', '{', '{"text":', '[]', 'null', '"text"', '1', 'a=b', '{}{}', '\ufeff{}', '{"text":"a",}'];
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY'];
const name = fc.oneof(fc.constantFrom(...NAMES), fc.string({ unit: 'binary', maxLength: 20 }));
const word = fc.oneof(
  fc.constantFrom(...NUMBERS, ...TEXTS, '..', '.', '%', '%2e%2e', '1,2', '[1]', 'true'),
  fc.string({ unit: 'binary', maxLength: 150 }),
);
const wellFormed = (text: fc.Arbitrary<string>) => text.map((one) => one.toWellFormed());
/** Bytes that a header may have. */
const headerText = fc.stringMatching(/^[\x20-\x7e\xa0-\xff]{0,300}$/);

export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ set: name, json: jsonText }) },
  { weight: 2, arbitrary: fc.record({ drop: fc.nat(5) }) },
  {
    weight: 1,
    arbitrary: fc.record({ body: fc.oneof(fc.constantFrom(...BODIES), nested, fc.uint8Array()) }),
  },
  { weight: 4, arbitrary: fc.record({ query: wellFormed(name), value: wellFormed(word) }) },
  { weight: 3, arbitrary: fc.record({ path: wellFormed(word) }) },
  {
    weight: 1,
    arbitrary: fc.record({ header: fc.constant('content-type'), value: fc.constantFrom(...TYPES) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      header: fc.constantFrom(
        'authorization',
        'idempotency-key',
        'traceparent',
        'accept',
        'origin',
        'range',
        'expect',
      ),
      value: headerText,
    }),
  },
  { weight: 1, arbitrary: fc.record({ method: fc.constantFrom(...METHODS) }) },
);

/**
 * Returns a request that the operation takes, apart from its token, which is one of `tokens`. `ids` are of
 * users and posts that exist.
 */
export function validDraft(
  method: string,
  { parameters = [], requestBody }: Operation,
  { seed, ids, tokens }: { seed: number; ids: readonly string[]; tokens: readonly string[] },
): Draft {
  const generate = (schema: Schema, salt: number) =>
    generateSync(schema as never, { seed: seed + salt, optionalsProbability: 0.5 });
  const draft: Draft = {
    method: method.toUpperCase(),
    path: {},
    query: [],
    headers: { authorization: `Bearer ${tokens[(seed >> 8) % tokens.length]}` },
    fields: undefined,
  };
  for (const [i, { in: where, name, required, schema }] of parameters.entries()) {
    if (!required && (seed >> i) % 2 === 0) continue;
    const value = generate(schema, i);
    if (where === 'path') draft.path[name] = seed % 2 ? ids[seed % ids.length]! : String(value);
    else if (where === 'header') draft.headers[name] = String(value);
    else if (typeof value === 'object') draft.query.push(...(Object.entries(value!) as [string, string][]));
    else draft.query.push([name, String(value)]);
  }
  if (requestBody) {
    const value = generate(requestBody.content['application/json'].schema, 0) as Record<string, unknown>;
    if ('id' in value && seed % 2) value.id = ids[seed % ids.length];
    draft.fields = Object.entries(value).map(([name, one]) => [name, JSON.stringify(one)]);
    draft.headers['content-type'] = 'application/json';
  }
  return draft;
}

export function mutate(draft: Draft, mutation: Mutation): void {
  if ('set' in mutation) {
    draft.fields ??= [];
    draft.headers['content-type'] ??= 'application/json';
    draft.fields.push([mutation.set, mutation.json]);
  } else if ('drop' in mutation) draft.fields?.splice(mutation.drop, 1);
  else if ('body' in mutation) draft.body = Buffer.from(mutation.body as string);
  else if ('query' in mutation) draft.query.push([mutation.query, mutation.value]);
  else if ('path' in mutation) for (const name of Object.keys(draft.path)) draft.path[name] = mutation.path;
  else if ('header' in mutation) draft.headers[mutation.header] = mutation.value;
  else draft.method = mutation.method;
}

/** Spells a draft as a request to the path of a pattern. */
export function requestOf(
  pattern: string,
  { method, path, query, headers, fields, body }: Draft,
): RawRequest {
  const at = pattern.replace(/\{(.*?)\}/g, (_, name) => encodeURIComponent(path[name]!));
  const text = fields && `{${fields.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(',')}}`;
  return {
    method,
    path: query.length > 0 ? `${at}?${new URLSearchParams(query)}` : at,
    headers,
    body: body ?? text,
  };
}
