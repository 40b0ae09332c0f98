/** `interrupted`: no process works on it, and it is not done. The next run resumes it. */
export const OPERATION_STATES = ['running', 'interrupted', 'done', 'failed', 'cancelled'] as const;
export type OperationState = (typeof OPERATION_STATES)[number];

/** User and command that run this process. Saved with each operation. */
export interface Invocation {
  /** `user@host`. */
  readonly who: string;
  /** Command that runs the same work again, without secrets. Missing for work that a role starts. */
  readonly command?: { readonly id: string; readonly args: readonly string[] };
}

/** A file that an operation reads. A resumed run has to read the same text. */
export interface OperationInput {
  /** Argument of the command line. */
  readonly argument: string;
  readonly path: string;
  /** SHA-256 of the text, unzipped. */
  readonly digest: string;
}

/** Progress in numbers, for operators. */
export interface OperationCounts {
  readonly done: number;
  /** Missing: not known. */
  readonly total?: number;
  /** `bytes`, `feeds`, `rows`. */
  readonly unit: string;
}
