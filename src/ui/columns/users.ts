import type { Celebrity } from '../../engine/store/celebrities.ts';
import { formatCount } from '../terminal/format.ts';
import { type Column, numberColumn } from './column.ts';

/** A celebrity, or in `top` a user who was hot in the last minute. */
export interface UserRow {
  readonly userId: number;
  readonly celebrity: Celebrity | null;
  readonly rowsAMinute: number | null;
  readonly pagesAMinute: number | null;
}

export const celebrityRow = (celebrity: Celebrity): UserRow => ({
  userId: celebrity.userId,
  celebrity,
  rowsAMinute: null,
  pagesAMinute: null,
});

export const USER_COLUMNS: readonly Column<UserRow>[] = [
  {
    title: 'user',
    width: 16,
    right: true,
    priority: 0,
    text: (row) => String(row.userId),
    value: (row) => -row.userId,
  },
  { title: 'state', width: 7, priority: 2, text: (row) => row.celebrity?.state ?? 'hot' },
  { title: 'pinned', width: 7, priority: 6, text: (row) => (row.celebrity?.pinned ? 'by hand' : '') },
  numberColumn({
    title: 'followers',
    width: 10,
    priority: 3,
    of: (row) => row.celebrity?.followers ?? null,
    format: formatCount,
  }),
  numberColumn({
    title: 'rows/min',
    only: 'top',
    width: 10,
    priority: 1,
    of: (row) => row.rowsAMinute,
    format: formatCount,
  }),
  numberColumn({
    title: 'pages/min',
    only: 'top',
    width: 9,
    priority: 4,
    of: (row) => row.pagesAMinute,
    format: formatCount,
  }),
  numberColumn({
    title: 'posts',
    width: 8,
    priority: 5,
    of: (row) => row.celebrity?.posts ?? null,
    format: formatCount,
  }),
];
