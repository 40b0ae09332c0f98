/**
 * Batches calls of one kind that are made in the same turn of the event loop, at most `max` per
 * batch. `work` returns the answers in the order of the queries.
 */
export function batchCalls<Query, Answer>(
  max: number,
  work: (queries: readonly Query[]) => Promise<readonly Answer[]>,
): (kind: string, query: Query) => Promise<Answer> {
  interface Batch {
    readonly queries: Query[];
    readonly answers: Promise<readonly Answer[]>;
  }
  const open = new Map<string, Batch>();
  const begin = (kind: string): Batch => {
    const queries: Query[] = [];
    const answers = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      if (open.get(kind)?.queries === queries) open.delete(kind);
      return work(queries);
    });
    const batch = { queries, answers };
    open.set(kind, batch);
    return batch;
  };
  return async (kind, query) => {
    const last = open.get(kind);
    const batch = last && last.queries.length < max ? last : begin(kind);
    const place = batch.queries.push(query) - 1;
    return (await batch.answers)[place]!;
  };
}
