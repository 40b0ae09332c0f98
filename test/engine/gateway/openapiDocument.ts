import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { expect } from 'vitest';
import { ERRORS } from '../../../src/engine/model/errors.ts';
import type { RawAnswer } from './rawRequest.ts';

export type Schema = Readonly<Record<string, unknown>>;

export interface Operation {
  readonly parameters?: readonly { in: string; name: string; required?: boolean; schema: Schema }[];
  readonly requestBody?: { readonly content: { readonly 'application/json': { readonly schema: Schema } } };
  readonly security?: unknown;
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, unknown>> }>>;
}

export interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

/** Compares answers with an OpenAPI document. */
export class DocumentedAnswers {
  readonly #document: Document;
  readonly #ajv = addFormats.default(new Ajv2020({ strict: false }));

  constructor(document: Document) {
    this.#document = document;
    this.#ajv.addSchema({ ...document, $id: 'openapi' } as object);
  }

  /** Fails unless the status is one of the operation, and the body is of the schema of that status. */
  check(pattern: string, method: string, { status, headers, text }: RawAnswer, what: string): void {
    const operations = this.#document.paths[pattern]!;
    const name = method === 'HEAD' ? 'get' : method.toLowerCase();
    const operation = operations[name];
    if (!operation) {
      expect([404, 405], what).toContain(status);
      if (status === 405) expect(headers.allow?.split(', '), what).not.toContain(method);
      this.#checkProblem(status, headers, text, what, method);
      return;
    }
    const documented = operation.responses[status];
    expect(documented, `${what}: ${status} is not documented`).toBeDefined();
    if (status >= 400) this.#checkProblem(status, headers, text, what, method);
    const type = headers['content-type']?.split(';')[0] ?? '';
    const { content } = documented!;
    expect(Object.keys(content ?? {}), `${what}: content type`).toContain(type);
    if (method === 'HEAD' || !type.includes('json')) return;
    const at = ['paths', pattern, name, 'responses', status, 'content', type, 'schema'];
    this.#checkSchema(at, JSON.parse(text), what);
  }

  #checkProblem(
    status: number,
    headers: RawAnswer['headers'],
    text: string,
    what: string,
    method: string,
  ): void {
    expect(headers['content-type'], what).toContain('application/problem+json');
    if (status === 401) expect(headers['www-authenticate'], what).toBe('Bearer');
    if (status === 429 || status === 503) expect(headers['retry-after'], what).toMatch(/^\d+$/);
    if (method === 'HEAD') return;
    const problem = JSON.parse(text) as { status: number; code: string; type: string };
    this.#checkSchema(['components', 'schemas', 'Problem'], problem, what);
    expect(problem, what).toMatchObject({ status, type: `urn:feedctl:error:${problem.code}` });
    expect(Object.keys(ERRORS), what).toContain(problem.code);
  }

  #checkSchema(at: readonly (string | number)[], value: unknown, what: string): void {
    const pointer = at.map((part) => encodeURIComponent(String(part).replace(/\//g, '~1'))).join('/');
    const isValid = this.#ajv.getSchema(`openapi#/${pointer}`)!;
    expect(isValid, pointer).toBeDefined();
    expect(isValid(value), `${what}: ${this.#ajv.errorsText(isValid.errors)}`).toBe(true);
  }
}
