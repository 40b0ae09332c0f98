import { link, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const NAME = /^cluster\.lock\.(\d+)$/;

/** Ownership of a data directory. The highest of the files `cluster.lock.N` decides. */
export interface Claim {
  /** Releases the directory for the next process. */
  release(): Promise<void>;
}

/**
 * Claims `directory`. `text` identifies the owner, and `isAlive` decides from such a text whether
 * its owner still runs. Returns the text of the current owner if there is one.
 *
 * Exactly one of several concurrent processes wins, for three reasons. A claim gets its number and
 * its text in one step, a link to a complete file. A claim is removed only after a higher one
 * exists. A process that reuses a removed number sees the higher one next to it and retries.
 *
 * The simpler way, which removes a stale file and then creates a new one, lets two processes win:
 * the second removes the file that the first has just created.
 */
export async function claim(
  directory: string,
  text: string,
  isAlive: (text: string) => boolean,
): Promise<Claim | { owner: string }> {
  const path = (number: number) => join(directory, `cluster.lock.${number}`);
  const numbers = async () =>
    (await readdir(directory)).flatMap((name) => Number(NAME.exec(name)?.[1] ?? [])).sort((a, b) => a - b);
  const draft = join(directory, `cluster.lock.new-${process.pid}-${Math.random().toString(36).slice(2)}`);
  await writeFile(draft, text, { mode: 0o644 });
  try {
    for (;;) {
      const last = (await numbers()).at(-1) ?? 0;
      const current = last > 0 ? await readFile(path(last), 'utf8').catch(() => '') : '';
      if (isAlive(current)) return { owner: current };
      const mine = last + 1;
      try {
        await link(draft, path(mine));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        continue;
      }
      const claims = await numbers();
      if (claims.at(-1) !== mine) {
        await rm(path(mine), { force: true });
        continue;
      }
      for (const lower of claims) if (lower < mine) await rm(path(lower), { force: true });
      return {
        async release() {
          // The file is emptied, not removed, because numbers must only grow.
          const empty = `${draft}-released`;
          await writeFile(empty, '', { mode: 0o644 });
          await rename(empty, path(mine));
        },
      };
    }
  } finally {
    await rm(draft, { force: true });
  }
}
