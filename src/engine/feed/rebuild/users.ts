import type { Queryable } from '../../database/types.ts';
import { countUsers, userIdAt, userIdsAfter } from '../../store/users.ts';

/** Users in rising order of their ids, so that one id describes the progress. */
export interface UserSource {
  count(): Promise<number>;
  after(id: number, limit: number): Promise<number[]>;
  /** Returns the user at this place, counted from 0. Returns undefined beyond the last one. */
  at(place: number): Promise<number | undefined>;
}

/** Every user, including those that are created meanwhile. */
export const allUsers = (db: Queryable): UserSource => ({
  count: () => countUsers(db),
  after: (id, limit) => userIdsAfter(db, id, limit),
  at: (place) => userIdAt(db, place),
});

/** `ids` are in rising order. */
export const listedUsers = (ids: readonly number[]): UserSource => ({
  count: async () => ids.length,
  after: async (id, limit) => {
    let first = 0;
    for (let last = ids.length; first < last; ) {
      const middle = (first + last) >> 1;
      if (ids[middle]! <= id) first = middle + 1;
      else last = middle;
    }
    return ids.slice(first, first + limit);
  },
  at: async (place) => ids[place],
});
