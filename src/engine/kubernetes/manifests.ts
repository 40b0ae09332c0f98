import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, relative, sep } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { isScalar, LineCounter, parseAllDocuments, visit } from 'yaml';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { isRecord, type Json, type KubeObject, type Manifest, nameOf } from './object.ts';
import { setImage, setNamespace } from './overrides.ts';

/** The overlays of `manifests/`, rendered: one file each. */
const RENDERED = fileURLToPath(new URL('../../../manifests/rendered/', import.meta.url));
const EXTENSION = '.yaml';
/** The name that stands for stdin. */
const STDIN = '-';

/**
 * Plain scalars that some YAML parsers read as a boolean or as a number of another base, and others
 * do not.
 */
const AMBIGUOUS = /^(?:y|n|yes|no|on|off|[-+]?0[0-7_]+|[-+]?0o[0-7]+)$/i;

export interface ManifestOptions {
  /** Replaces every namespace of the manifests. */
  readonly namespace?: string | undefined;
  /** Replaces the image of each container that runs feedctl. */
  readonly image?: string | undefined;
  /** Default: the stdin of the process. */
  readonly stdin?: (Readable & { readonly isTTY?: boolean }) | undefined;
}

/**
 * Returns the objects of a shipped overlay (`dev`, `prod`), of a YAML file, or of stdin (`-`).
 * Throws FILE_NOT_FOUND, USAGE if stdin is a terminal or no container runs feedctl's image, and
 * MANIFEST_INVALID with file and line.
 */
export async function readManifests(name: string, options: ManifestOptions = {}): Promise<Manifest[]> {
  const { namespace, image } = options;
  const manifests = name === STDIN ? await readStdin(options.stdin ?? process.stdin) : await readNamed(name);
  const objects = manifests.map(({ object }) => object);
  if (namespace !== undefined) setNamespace(objects, namespace);
  refuseDuplicates(manifests);
  if (image !== undefined && !setImage(objects, image))
    throw new FeedctlError(
      'USAGE',
      `--image changes nothing: no container of ${name === STDIN ? 'stdin' : name} runs feedctl`,
      { suggestions: ['Leave --image out, and set the image in the manifests.'] },
    );
  return manifests;
}

async function readStdin(stdin: Readable & { readonly isTTY?: boolean }): Promise<Manifest[]> {
  if (stdin.isTTY)
    throw new FeedctlError('USAGE', 'stdin is a terminal, and - reads the manifests from stdin', {
      suggestions: ['Pipe them in: `kustomize build DIRECTORY | feedctl cluster apply -`.'],
    });
  return parseManifests(await text(stdin), 'stdin');
}

async function readNamed(name: string): Promise<Manifest[]> {
  const shipped = (await readdir(RENDERED)).map((file) => basename(file, EXTENSION));
  const path = shipped.includes(name) ? join(RENDERED, name + EXTENSION) : name;
  const found = await stat(path).catch(() => undefined);
  if (!found)
    throw new FeedctlError(
      'FILE_NOT_FOUND',
      `${JSON.stringify(name)} is neither an overlay (${shipped.join(', ')}) nor a file`,
    );
  const shown = shownPath(path);
  if (found.isDirectory()) throw invalid(shown, 'a directory is not rendered', pipeOf(shown));
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    throw invalid(shown, `the file cannot be read: ${messageOf(error)}`, { cause: error });
  }
  return parseManifests(content, shown);
}

/** Returns `path` relative to the working directory, unless that would begin with several `..`. */
const shownPath = (path: string): string => {
  const from = relative(process.cwd(), path);
  return from.startsWith(`..${sep}..`) || from === '' ? path : from;
};

const invalid = (
  where: string,
  why: string,
  options?: { cause?: unknown; suggestions?: string[] },
): FeedctlError => new FeedctlError('MANIFEST_INVALID', `${where}: ${why}`, options);

const pipeOf = (directory: string) => ({
  suggestions: [`Render it with Kustomize: \`kustomize build ${directory} | feedctl cluster apply -\`.`],
});

/**
 * Returns the objects of a text of YAML documents; `file` names it in errors. Throws
 * MANIFEST_INVALID.
 */
function parseManifests(content: string, file: string): Manifest[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(content, { lineCounter: lines, version: '1.2', uniqueKeys: true });
  const at = (offset: number) => `${file}:${lines.linePos(offset).line}`;
  const manifests = (Array.isArray(documents) ? documents : []).flatMap((document): Manifest[] => {
    const fault = document.errors[0] ?? document.warnings[0];
    if (fault) throw invalid(at(fault.pos[0]), fault.message.split(/ at line| \(\d/)[0]!, { cause: fault });
    visit(document, {
      Scalar(_, node) {
        if (node.type === 'PLAIN' && AMBIGUOUS.test(node.source ?? ''))
          throw invalid(
            at(node.range?.[0] ?? 0),
            `programs read ${node.source} differently: quote it, or write a decimal number`,
          );
      },
    });
    const { contents } = document;
    if (contents === null || (isScalar(contents) && contents.value === null)) return [];
    const source = at(contents.range?.[0] ?? 0);
    return [{ object: checkedObject(document.toJS({ maxAliasCount: 100 }), source), source }];
  });
  if (manifests.length === 0) throw invalid(file, 'there is no object in it');
  return manifests;
}

function checkedObject(value: Json, source: string): KubeObject {
  if (!isRecord(value)) throw invalid(source, 'this is not an object of Kubernetes');
  const { apiVersion, kind, metadata } = value;
  for (const [field, one] of Object.entries({ apiVersion, kind }))
    if (typeof one !== 'string' || one === '') throw invalid(source, `${field} is missing`);
  if (String(apiVersion).startsWith('kustomize.config.k8s.io/'))
    throw invalid(source, 'a kustomization is not rendered', pipeOf('DIRECTORY'));
  if (!isRecord(metadata) || typeof metadata.name !== 'string' || metadata.name === '')
    throw invalid(source, 'metadata.name is missing');
  return value as unknown as KubeObject;
}

function refuseDuplicates(manifests: readonly Manifest[]): void {
  const sources = new Map<string, string>();
  for (const { object, source } of manifests) {
    const { apiVersion, kind, metadata } = object;
    const key = [apiVersion.replace(/\/[^/]*$/, ''), kind, metadata.namespace ?? '', metadata.name].join(' ');
    const first = sources.get(key);
    if (first !== undefined) throw invalid(source, `${nameOf(object)} is already in ${first}`);
    sources.set(key, source);
  }
}
