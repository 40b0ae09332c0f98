import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** Writes a file for one test. */
export async function file(content: string | Buffer, name = 'data.txt'): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-file-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}
