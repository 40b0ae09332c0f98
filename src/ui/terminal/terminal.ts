/**
 * Returns whether a terminal may be unable to show more than ASCII: a dumb one, or a locale with another
 * character set than UTF-8. Without a locale in the environment, as in containers, it can.
 */
export function asciiOnly(env: NodeJS.ProcessEnv): boolean {
  if (env.TERM === 'dumb') return true;
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG;
  return Boolean(locale) && !/utf-?8/i.test(locale!);
}

/** Returns whether a stream shows colours. NO_COLOR and FORCE_COLOR override what the terminal says. */
export function hasColours(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv): boolean {
  if (env.NO_COLOR) return false;
  if (env.FORCE_COLOR) return env.FORCE_COLOR !== '0';
  return Boolean(stream.isTTY) && env.TERM !== 'dumb';
}
