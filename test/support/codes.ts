import { FeedctlError } from '../../src/engine/model/errors.ts';

/** The code of the FeedctlError that `work` throws; anything else that it throws fails the test. */
export function codeOf(work: () => unknown): string | undefined {
  try {
    work();
  } catch (error) {
    if (error instanceof FeedctlError) return error.code;
    throw error;
  }
  return undefined;
}

/** The FeedctlError that a promise rejects with; anything else fails the test. */
export async function rejection(promise: Promise<unknown>): Promise<FeedctlError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof FeedctlError) return error;
    throw error;
  }
  throw new Error('expected a rejection');
}
