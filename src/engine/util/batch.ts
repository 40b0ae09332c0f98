/**
 * Makes one call of those of a kind that are asked for in the same turn of the event loop, `most` at a time. `work` answers
 * them in their order.
 */
export function batchCalls<Query, Answer>(
  most: number,
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
    const batch = last && last.queries.length < most ? last : begin(kind);
    const place = batch.queries.push(query) - 1;
    return (await batch.answers)[place]!;
  };
}
