import fc from 'fast-check';

/**
 * Users are numbers within the history, posts count from the oldest; both wrap around. The author of
 * a follow is a distance from the reader, so that no user follows themselves.
 */
export type Operation =
  | { readonly do: 'follow' | 'unfollow'; readonly reader: number; readonly next: number }
  | { readonly do: 'post' | 'mark' | 'unmark'; readonly author: number }
  | { readonly do: 'update' | 'delete' | 'divide'; readonly post: number }
  | { readonly do: 'trim'; readonly user: number; readonly keep: number }
  | { readonly do: 'rebuild' | 'connect' | 'disconnect'; readonly user: number }
  | { readonly do: 'read'; readonly user: number; readonly limit: number; readonly cached: boolean }
  | { readonly do: 'crash'; readonly victim: number }
  | { readonly do: 'retire' | 'sweep' | 'settle' };

export interface History {
  readonly users: number;
  /** Seed of the order of all steps. */
  readonly seed: number;
  /** Follows and authors of posts at the beginning, all handled before the first operation. */
  readonly follows: readonly { readonly reader: number; readonly next: number }[];
  readonly posts: readonly number[];
  readonly operations: readonly Operation[];
}

const user = fc.nat({ max: 5 });
const post = fc.nat({ max: 9 });
const of = <Name extends string, Fields extends Record<string, fc.Arbitrary<unknown>>>(
  name: Name,
  fields: Fields,
) => fc.record({ do: fc.constant(name), ...fields }, { noNullPrototype: true });

/** Most operations are follows and posts; failures are rarer. */
const operation = fc.oneof(
  { weight: 6, arbitrary: of('follow', { reader: user, next: user }) },
  { weight: 3, arbitrary: of('unfollow', { reader: user, next: user }) },
  { weight: 6, arbitrary: of('post', { author: user }) },
  { weight: 1, arbitrary: of('update', { post }) },
  { weight: 2, arbitrary: of('delete', { post }) },
  { weight: 2, arbitrary: of('mark', { author: user }) },
  { weight: 2, arbitrary: of('unmark', { author: user }) },
  { weight: 2, arbitrary: of('trim', { user, keep: fc.nat({ max: 3 }) }) },
  { weight: 2, arbitrary: of('rebuild', { user }) },
  { weight: 2, arbitrary: of('divide', { post }) },
  { weight: 2, arbitrary: of('retire', {}) },
  { weight: 2, arbitrary: of('connect', { user }) },
  { weight: 1, arbitrary: of('disconnect', { user }) },
  {
    weight: 4,
    arbitrary: of('read', { user, limit: fc.integer({ min: 1, max: 4 }), cached: fc.boolean() }),
  },
  { weight: 2, arbitrary: of('crash', { victim: fc.nat({ max: 9 }) }) },
  { weight: 1, arbitrary: of('sweep', {}) },
  { weight: 3, arbitrary: of('settle', {}) },
) as fc.Arbitrary<Operation>;

export const histories: fc.Arbitrary<History> = fc.record(
  {
    users: fc.integer({ min: 2, max: 4 }),
    seed: fc.noShrink(fc.integer({ min: 0, max: 2 ** 32 - 1 })),
    follows: fc.uniqueArray(fc.record({ reader: user, next: user }, { noNullPrototype: true }), {
      maxLength: 6,
      selector: ({ reader, next }) => `${reader} ${next}`,
    }),
    posts: fc.array(user, { maxLength: 6 }),
    operations: fc.array(operation, { minLength: 1, maxLength: 16, size: 'max' }),
  },
  { noNullPrototype: true },
);
