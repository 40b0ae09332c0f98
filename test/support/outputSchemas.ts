import { readdirSync, readFileSync } from 'node:fs';
import type { ValidateFunction } from 'ajv';
import { Ajv2019 } from 'ajv/dist/2019.js';
import ajvFormats from 'ajv-formats';

const FOLDER = new URL('../../docs/schemas/', import.meta.url);
const NAMES = new Set(readdirSync(FOLDER).map((file) => file.slice(0, -'.json'.length)));

const ajv = new Ajv2019({ strict: false, allErrors: true });
ajvFormats.default(ajv);
const validators = new Map<string, ValidateFunction>();

interface Schema {
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema | boolean;
  anyOf?: Schema[];
  allOf?: Schema[];
  definitions?: Record<string, Schema>;
  $schema?: string;
  unevaluatedProperties?: false;
}

/** Makes the schema refuse undocumented fields. Published schemas allow them, for later versions. */
function close(schema: Schema, part: 'whole' | 'part' = 'whole'): Schema {
  const { $schema, ...closed } = schema;
  // A schema without properties allows any field.
  if (Object.keys(closed).length === 0) return closed;
  if (part === 'whole') closed.unevaluatedProperties = false;
  const each = (of: Record<string, Schema>, how?: 'part') =>
    Object.fromEntries(Object.entries(of).map(([name, one]) => [name, close(one, how)]));
  if (closed.properties) closed.properties = each(closed.properties);
  if (closed.definitions) closed.definitions = each(closed.definitions, 'part');
  if (closed.items) closed.items = close(closed.items);
  if (typeof closed.additionalProperties === 'object')
    closed.additionalProperties = close(closed.additionalProperties);
  if (closed.anyOf) closed.anyOf = closed.anyOf.map((one) => close(one, 'part'));
  if (closed.allOf) closed.allOf = closed.allOf.map((one) => close(one, 'part'));
  return closed;
}

function validatorOf(name: string): ValidateFunction {
  const known = validators.get(name);
  if (known) return known;
  const schema = JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), 'utf8')) as Schema;
  const validator = ajv.compile(close(schema));
  validators.set(name, validator);
  return validator;
}

/** Returns the differences of the output of a command with --json from its schema. */
export function undocumented(args: readonly string[], stdout: string): string | undefined {
  if (!args.includes('--json') || args.includes('--help')) return undefined;
  const words = args.slice(
    0,
    args.findIndex((word) => word.startsWith('-')),
  );
  const name = [words.slice(0, 2).join('-'), words[0]].find((one) => one && NAMES.has(one));
  if (!name) return undefined;
  let output: { error?: unknown } | undefined;
  try {
    output = JSON.parse(stdout);
  } catch {
    // The command ended early, or prints several values: its own test checks that.
    return undefined;
  }
  const validate = validatorOf(name);
  if (output?.error !== undefined || validate(output)) return undefined;
  const errors = ajv.errorsText(validate.errors);
  return `\`feedctl ${args.join(' ')}\` does not match docs/schemas/${name}.json: ${errors}\n${stdout}`;
}
