import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

interface Component {
  readonly 'bom-ref': string;
  readonly purl: string;
  readonly hashes: readonly { readonly alg: string; readonly content: string }[];
  readonly licenses: readonly unknown[];
  readonly properties: readonly { readonly name: string; readonly value: string }[];
}

/** The part of a CycloneDX 1.5 document that this script changes. */
export interface Bom {
  readonly metadata: { readonly component: Component & { name: string } };
  components: Component[];
  dependencies: { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

const ROOT = new URL('..', import.meta.url);
const DEVELOPMENT = 'cdx:npm:package:development';

/**
 * Returns the bill of materials of the packages that a user installs, from package-lock.json. The option
 * `--omit=dev` of `npm sbom` leaves out production packages that development packages use too, so this
 * function reads the complete document and removes the components that are marked.
 */
export function productionBom(): Bom {
  const npm = spawnSync(
    'npm',
    ['sbom', '--sbom-format=cyclonedx', '--sbom-type=application', '--package-lock-only'],
    { cwd: fileURLToPath(ROOT), encoding: 'utf8', maxBuffer: 64 * 1024 ** 2 },
  );
  if (npm.status !== 0) throw new Error(`npm sbom failed: ${npm.stderr}`);
  const bom = JSON.parse(npm.stdout) as Bom;
  const { component } = bom.metadata;
  // npm names the directory here.
  component.name = /^pkg:npm\/(.*)@/.exec(component.purl)![1]!;
  const isDevelopment = ({ properties }: Component) =>
    properties.some(({ name, value }) => name === DEVELOPMENT && value === 'true');
  const removed = new Set(bom.components.filter(isDevelopment).map((one) => one['bom-ref']));
  bom.components = bom.components.filter((one) => !removed.has(one['bom-ref']));
  // A package that this one uses in development only may be one that a dependency uses.
  const { dependencies, optionalDependencies } = JSON.parse(
    readFileSync(new URL('package.json', ROOT), 'utf8'),
  );
  const direct = new Set(Object.keys({ ...dependencies, ...optionalDependencies }));
  const isKept = (ref: string) => (one: string) =>
    !removed.has(one) && (ref !== component['bom-ref'] || direct.has(one.replace(/@[^@]*$/, '')));
  bom.dependencies = bom.dependencies
    .filter(({ ref }) => !removed.has(ref))
    .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter(isKept(ref)) }));
  return bom;
}

if (import.meta.main) process.stdout.write(`${JSON.stringify(productionBom(), null, 2)}\n`);
