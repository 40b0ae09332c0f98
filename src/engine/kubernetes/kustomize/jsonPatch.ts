import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { isRecord, type Json, type JsonObject } from '../object.ts';

const pointer = z.string().regex(/^(?:\/.*)?$/, { error: 'must begin with /' });
const value = z.json();
/** RFC 6902. */
export const operationsSchema = z.array(
  z.discriminatedUnion('op', [
    z.strictObject({ op: z.literal('add'), path: pointer, value }),
    z.strictObject({ op: z.literal('replace'), path: pointer, value }),
    z.strictObject({ op: z.literal('test'), path: pointer, value }),
    z.strictObject({ op: z.literal('remove'), path: pointer }),
    z.strictObject({ op: z.literal('move'), path: pointer, from: pointer }),
    z.strictObject({ op: z.literal('copy'), path: pointer, from: pointer }),
  ]),
);
export type Operation = z.infer<typeof operationsSchema>[number];

/** A copy of `target` with the operations done, in order. `fail`: makes the error for one that cannot be done. */
export function jsonPatch(
  target: JsonObject,
  operations: readonly Operation[],
  fail: (why: string) => Error,
): JsonObject {
  const root: JsonObject = { '': structuredClone(target) };
  for (const operation of operations) {
    const { op, path } = operation;
    if (op === 'add') add(root, path, operation.value, fail);
    else if (op === 'remove') remove(root, path, fail);
    else if (op === 'replace') {
      remove(root, path, fail);
      add(root, path, operation.value, fail);
    } else if (op === 'test') {
      if (!isDeepStrictEqual(read(root, path, fail), operation.value))
        throw fail(`the test of ${path} fails`);
    } else {
      const moved = structuredClone(read(root, operation.from, fail));
      if (op === 'move') remove(root, operation.from, fail);
      add(root, path, moved, fail);
    }
  }
  return root[''] as JsonObject;
}

/** The container of what a pointer names, and its last step. */
function locate(root: JsonObject, path: string, fail: (why: string) => Error): [Json, string] {
  const steps = path.split('/').map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  let at: Json = root;
  for (const step of steps.slice(0, -1)) {
    const next: Json | undefined = Array.isArray(at) ? at[Number(step)] : isRecord(at) ? at[step] : undefined;
    if (next === undefined) throw fail(`${path} is not there`);
    at = next;
  }
  return [at, steps.at(-1)!];
}

function read(root: JsonObject, path: string, fail: (why: string) => Error): Json {
  const [at, step] = locate(root, path, fail);
  const found = Array.isArray(at) ? at[Number(step)] : isRecord(at) ? at[step] : undefined;
  if (found === undefined) throw fail(`${path} is not there`);
  return found;
}

function add(root: JsonObject, path: string, added: Json, fail: (why: string) => Error): void {
  const [at, step] = locate(root, path, fail);
  if (Array.isArray(at)) {
    const index = step === '-' ? at.length : Number(step);
    if (!Number.isInteger(index) || index < 0 || index > at.length)
      throw fail(`${path} is no place in that list`);
    at.splice(index, 0, added);
  } else if (isRecord(at)) at[step] = added;
  else throw fail(`${path} is inside a plain value`);
}

function remove(root: JsonObject, path: string, fail: (why: string) => Error): void {
  read(root, path, fail);
  const [at, step] = locate(root, path, fail);
  if (Array.isArray(at)) at.splice(Number(step), 1);
  else delete (at as JsonObject)[step];
}
