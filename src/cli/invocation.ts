import { hostname, userInfo } from 'node:os';
import type { Invocation } from '../engine/model/operation.ts';

/** Returns the user of the operating system. In a container the user id may have no name. */
export function operator(): string {
  let name: string;
  try {
    name = userInfo().username;
  } catch {
    name = process.env.USER || `uid-${process.getuid?.() ?? 0}`;
  }
  return `${name}@${hostname()}`;
}

type Flags = Readonly<Record<string, { readonly type: string; readonly char?: string | undefined }>>;

/**
 * Returns a command and its arguments, without a plain confirmation and without the flags for the cluster
 * and the output: `operation resume` adds its own.
 */
export function invocationOf(
  command: { readonly id: string; readonly flags: Flags; readonly baseFlags: Flags },
  argv: readonly string[],
): Invocation {
  const dropped: Flags = { ...command.baseFlags, json: { type: 'boolean' } };
  const yes = command.flags.yes;
  const names = new Map<string, string>();
  for (const [name, flag] of Object.entries(yes?.type === 'boolean' ? { ...dropped, yes } : dropped)) {
    names.set(`--${name}`, flag.type);
    if (flag.char) names.set(`-${flag.char}`, flag.type);
  }
  const args: string[] = [];
  for (let n = 0; n < argv.length; n += 1) {
    const arg = argv[n]!;
    if (arg === '--')
      return { who: operator(), command: { id: command.id, args: [...args, ...argv.slice(n)] } };
    const [flag = ''] = arg.split('=', 1);
    const type = names.get(flag);
    if (type === undefined) args.push(arg);
    else if (type === 'option' && flag === arg) n += 1;
  }
  return { who: operator(), command: { id: command.id, args } };
}
