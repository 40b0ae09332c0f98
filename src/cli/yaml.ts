import { stringify } from 'yaml';

/** Returns a value as YAML, with the same fields as its JSON. */
export const yamlText = (value: unknown): string =>
  stringify(JSON.parse(JSON.stringify(value)), { aliasDuplicateObjects: false, lineWidth: 0 });
