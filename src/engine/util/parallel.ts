/**
 * Runs `work` on every item, at most `concurrency` at a time. Returns the results in the order of
 * the items. After a failure it starts no more items, waits for those in flight, and rejects with
 * the first failure.
 */
export async function runConcurrently<T, R>(
  items: readonly T[],
  concurrency: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const failures: unknown[] = [];
  const runner = async () => {
    for (const [i, item] of queue) {
      if (failures.length > 0) return;
      try {
        results[i] = await work(item);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, runner));
  if (failures.length > 0) throw failures[0];
  return results;
}
