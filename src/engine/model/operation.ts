/** `interrupted`: nobody works on it any more, and it is not done; the same work goes on where it stopped. */
export const OPERATION_STATES = ['running', 'interrupted', 'done', 'failed', 'cancelled'] as const;
export type OperationState = (typeof OPERATION_STATES)[number];

/** Who runs what: noted with each operation. */
export interface Invocation {
  /** `user@host`. */
  readonly who: string;
  /** Command and arguments, which run the same work again; none of what a role does by itself. Never a secret. */
  readonly command?: { readonly id: string; readonly args: readonly string[] };
}

/** A file that an operation reads: what it goes on with has to be the same. */
export interface OperationInput {
  /** As it was given. */
  readonly argument: string;
  readonly path: string;
  /** SHA-256 of the text, unzipped. */
  readonly digest: string;
}

/** How far it has come, in numbers for people. */
export interface OperationCounts {
  readonly done: number;
  /** Left away where it is not known. */
  readonly total?: number;
  /** `bytes`, `feeds`, `rows`. */
  readonly unit: string;
}
