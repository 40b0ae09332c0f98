import { link, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const NAME = /^cluster\.lock\.(\d+)$/;

/** The right to a data directory, held by the highest of the files `cluster.lock.N`. */
export interface Claim {
  /** Lets the next one have it. */
  release(): Promise<void>;
}

/**
 * Claims `directory` with the text that says whose claim it is. `isHeld` tells of such a text whether its owner still
 * lives. Returns the owner's text where another one holds it.
 *
 * One winner, however many try at once: a claim gets its number and its text in one step (a link to a file that is
 * whole), nobody takes away a claim before a higher one is there, and a number that was taken away comes too late for
 * whoever takes it again, as a higher one is seen next to it. To remove a stale file and then to create one's own, as
 * one would do it otherwise, lets two win: the second removes what the first has just created.
 */
export async function claim(
  directory: string,
  text: string,
  isHeld: (text: string) => boolean,
): Promise<Claim | { heldBy: string }> {
  const path = (number: number) => join(directory, `cluster.lock.${number}`);
  const numbers = async () =>
    (await readdir(directory)).flatMap((name) => Number(NAME.exec(name)?.[1] ?? [])).sort((a, b) => a - b);
  const draft = join(directory, `cluster.lock.new-${process.pid}-${Math.random().toString(36).slice(2)}`);
  await writeFile(draft, text, { mode: 0o644 });
  try {
    for (;;) {
      const last = (await numbers()).at(-1) ?? 0;
      const owner = last > 0 ? await readFile(path(last), 'utf8').catch(() => '') : '';
      if (isHeld(owner)) return { heldBy: owner };
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
          // Emptied, not removed: numbers only grow.
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
