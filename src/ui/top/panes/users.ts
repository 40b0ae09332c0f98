import type { TopSnapshot } from '../../../engine/monitoring/top/snapshot.ts';
import { topColumns } from '../../columns/column.ts';
import { USER_COLUMNS, type UserRow } from '../../columns/users.ts';
import { formatCount } from '../../terminal/format.ts';
import { pane } from '../pane.ts';

const usersOf = (snapshot: TopSnapshot): UserRow[] | null => {
  const { celebrities, figures } = snapshot;
  if (!celebrities && !figures) return null;
  const users = new Map<number, UserRow>();
  const of = (userId: number): UserRow =>
    users.get(userId) ?? { userId, celebrity: null, rowsAMinute: null, pagesAMinute: null };
  for (const { userId, rows } of figures?.hotAuthors ?? [])
    users.set(userId, { ...of(userId), rowsAMinute: rows });
  for (const { userId, pages } of figures?.hotReaders ?? [])
    users.set(userId, { ...of(userId), pagesAMinute: pages });
  for (const celebrity of celebrities ?? [])
    users.set(celebrity.userId, { ...of(celebrity.userId), celebrity });
  return [...users.values()];
};
const celebrityText = ({ celebrity }: UserRow): string =>
  celebrity ? `celebrity, ${celebrity.state}${celebrity.pinned ? ', pinned' : ''}` : 'hot';

export const USERS_PANE = pane<UserRow>({
  id: 'users',
  hotkey: '5',
  title: 'Users',
  short: 'Users',
  source: 'celebrities',
  rows: usersOf,
  key: (row) => String(row.userId),
  empty: () => 'no celebrities, and no hot user in the last minute',
  sort: 'rows/min',
  columns: topColumns(USER_COLUMNS),
  detail: (row) => [
    ['user', String(row.userId)],
    ['what', celebrityText(row)],
    ['followers', row.celebrity ? formatCount(row.celebrity.followers) : 'not read'],
    ['posts', row.celebrity ? formatCount(row.celebrity.posts) : 'not read'],
    [
      'feed rows planned, last whole minute',
      row.rowsAMinute === null ? 'not in the top' : `about ${formatCount(row.rowsAMinute)}`,
    ],
    [
      'pages read over HTTP, last whole minute',
      row.pagesAMinute === null ? 'not in the top' : `about ${formatCount(row.pagesAMinute)}`,
    ],
    ['look at them', `feedctl user show ${row.userId}`],
  ],
});
