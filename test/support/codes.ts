import { FeedctlError } from '../../src/engine/model/errors.ts';

/** Returns the code of the FeedctlError that `work` throws. Another error fails the test. */
export function codeOf(work: () => unknown): string | undefined {
  try {
    work();
  } catch (error) {
    if (error instanceof FeedctlError) return error.code;
    throw error;
  }
  return undefined;
}

/** Returns the FeedctlError of a rejected promise. Another error fails the test. */
export async function rejection(promise: Promise<unknown>): Promise<FeedctlError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof FeedctlError) return error;
    throw error;
  }
  throw new Error('expected a rejection');
}
