import { BUGS } from './bugs.ts';

/** Returns the arguments of node that plant a bug. */
export function plantedNode(name: string): string[] {
  if (!BUGS.some((bug) => bug.name === name)) throw new Error(`no bug ${name}: --list shows all`);
  return ['--import', `${new URL('register.ts', import.meta.url).href}?${name}`];
}
