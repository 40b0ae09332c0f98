import { readFile, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { isScalar, LineCounter, parseAllDocuments, visit } from 'yaml';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import { isRecord, type Json, type JsonObject } from '../object.ts';

/** Other readers of YAML take these for a boolean, or for a number in another base. */
const AMBIGUOUS = /^(?:y|n|yes|no|on|off|[-+]?0[0-7_]+|[-+]?0o[0-7]+)$/i;

export interface YamlDocument {
  readonly value: JsonObject | Json[];
  /** file:line */
  readonly source: string;
}

/** Throws MANIFEST_INVALID: `where` is file:line, or a file. */
export function invalid(where: string, why: string, cause?: unknown): FeedctlError {
  return new FeedctlError('MANIFEST_INVALID', `${where}: ${why}`, { cause });
}

/** A path as it is shown: relative to where the command runs, unless that would lead far away. */
export const shownPath = (path: string): string => {
  const from = relative(process.cwd(), path);
  return from.startsWith(`..${sep}..`) || from === '' ? path : from;
};

export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT'
        ? 'there is no such file'
        : `cannot be read: ${messageOf(error)}`;
    throw invalid(shownPath(path), why, error);
  }
}

export async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** A path in a kustomization: relative to its directory. */
export const pathFrom = (directory: string, path: string): string => resolve(directory, path);
export const directoryOf = (path: string): string => dirname(path);

/** The documents of a YAML file, empty ones left out. Throws MANIFEST_INVALID with file and line. */
export function parseYaml(text: string, file: string, firstLine = 1): YamlDocument[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, version: '1.2', uniqueKeys: true });
  const at = (offset: number) => `${file}:${lines.linePos(offset).line + firstLine - 1}`;
  return [...(Array.isArray(documents) ? documents : [])].flatMap((document) => {
    const fault = document.errors[0] ?? document.warnings[0];
    if (fault) throw invalid(at(fault.pos[0]), fault.message.split(/ at line| \(\d/)[0]!, fault);
    visit(document, {
      Scalar(_, node) {
        if (node.type === 'PLAIN' && AMBIGUOUS.test(node.source ?? ''))
          throw invalid(
            at(node.range?.[0] ?? 0),
            `${node.source} means different things to different programs: quote it, or write a plain number`,
          );
      },
    });
    const content = document.contents;
    if (content === null || (isScalar(content) && content.value === null)) return [];
    const source = at(content.range?.[0] ?? 0);
    const value = document.toJS({ maxAliasCount: 100 }) as Json;
    if (!isRecord(value) && !Array.isArray(value)) throw invalid(source, 'this is no object');
    return [{ value, source }];
  });
}

export async function readYaml(path: string): Promise<YamlDocument[]> {
  return parseYaml(await readText(path), shownPath(path));
}

/** Where a kustomization is kept, in a directory. */
export async function kustomizationFile(directory: string): Promise<string> {
  for (const name of ['kustomization.yaml', 'kustomization.yml', 'Kustomization']) {
    const path = join(directory, name);
    if ((await stat(path).catch(() => undefined))?.isFile()) return path;
  }
  throw invalid(shownPath(directory), 'there is no kustomization.yaml in this directory');
}
