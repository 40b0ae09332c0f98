import type { Context, ListedContext } from '../../engine/config/contexts.ts';
import { withoutPassword } from '../../engine/database/url.ts';

/** A context as it may be shown: passwords in its URLs are masked; where a secret comes from is no secret. */
export const shownContext = ({ name, current, context }: ListedContext) => ({
  name,
  current,
  production: context.production === true || context.production === 'true',
  settings: Object.fromEntries(
    Object.entries(context).map(([key, value]) => [
      key,
      typeof value === 'string' ? withoutPassword(value) : value,
    ]),
  ) as Context,
});

export type ShownContext = ReturnType<typeof shownContext>;

/** A value, or where it comes from: `$NAME`, `<file`, `!command`. */
export function settingText(value: Context[keyof Context]): string {
  if (typeof value !== 'object') return String(value);
  if ('env' in value) return `$${value.env}`;
  return 'file' in value ? `<${value.file}` : `!${value.command}`;
}
