import { z } from 'zod';
import type { YamlDocument } from './file.ts';
import { invalid } from './file.ts';

const text = z.string().min(1);
const strings = z.record(z.string(), z.string());

const target = z.strictObject({
  group: text.optional(),
  version: text.optional(),
  kind: text.optional(),
  name: text.optional(),
  namespace: text.optional(),
});

const generatorOptions = z.strictObject({
  disableNameSuffixHash: z.boolean().optional(),
  labels: strings.optional(),
  annotations: strings.optional(),
});

/**
 * What of Kustomize is understood. Anything else is refused and never passed over: a field that did nothing here would do
 * something in `kubectl apply -k`.
 */
const kustomizationSchema = z.strictObject({
  apiVersion: z.enum(['kustomize.config.k8s.io/v1beta1', 'kustomize.config.k8s.io/v1alpha1']).optional(),
  kind: z.enum(['Kustomization', 'Component']).optional(),
  resources: z.array(text).default([]),
  components: z.array(text).default([]),
  namespace: text.optional(),
  labels: z
    .array(
      z.strictObject({
        pairs: strings,
        includeTemplates: z.boolean().default(false),
        includeSelectors: z.literal(false).optional(),
      }),
    )
    .default([]),
  images: z
    .array(
      z.strictObject({
        name: text,
        newName: text.optional(),
        newTag: text.optional(),
        digest: text.optional(),
      }),
    )
    .default([]),
  replicas: z.array(z.strictObject({ name: text, count: z.int().min(0) })).default([]),
  patches: z
    .array(
      z
        .strictObject({ path: text.optional(), patch: text.optional(), target: target.optional() })
        .refine((one) => (one.path === undefined) !== (one.patch === undefined), {
          error: 'needs one of path and patch',
        }),
    )
    .default([]),
  configMapGenerator: z
    .array(
      z.strictObject({
        name: text,
        behavior: z.enum(['create', 'merge', 'replace']).default('create'),
        literals: z.array(text).default([]),
        files: z.array(text).default([]),
        options: generatorOptions.optional(),
      }),
    )
    .default([]),
  generatorOptions: generatorOptions.optional(),
});

export type Kustomization = z.infer<typeof kustomizationSchema>;
export type Image = Kustomization['images'][number];
export type ConfigMapArgs = Kustomization['configMapGenerator'][number];
export type GeneratorOptions = z.infer<typeof generatorOptions>;

/** Throws MANIFEST_INVALID. */
export function checkKustomization({ value, source }: YamlDocument): Kustomization {
  const parsed = kustomizationSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const at = issue.path.join('.');
  throw invalid(source, `${at && `${at}: `}${issue.message}`, parsed.error);
}
