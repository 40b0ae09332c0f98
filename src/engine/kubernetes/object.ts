export type Json = string | number | boolean | null | Json[] | JsonObject;
export interface JsonObject {
  [field: string]: Json;
}

/** An object of Kubernetes, of a manifest or of the API. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: KubeMetadata;
  [field: string]: unknown;
}

interface KubeMetadata {
  name: string;
  namespace?: string;
  uid?: string;
  generation?: number;
  creationTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: { kind: string; name: string; controller?: boolean }[];
  managedFields?: { manager?: string; operation?: string; subresource?: string }[];
  [field: string]: unknown;
}

/** An object and its place in a text. */
export interface Manifest {
  readonly object: KubeObject;
  /** file:line */
  readonly source: string;
}

export const isRecord = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Returns kind and name: Deployment/feedctl-worker */
export const nameOf = ({ kind, metadata }: KubeObject): string => `${kind}/${metadata.name}`;

/** Returns the group of an apiVersion; '' for the core group. */
export const groupOf = (apiVersion: string): string =>
  apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';
