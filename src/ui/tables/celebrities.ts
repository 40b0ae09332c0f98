import type { Evaluation } from '../../engine/celebrities/evaluate.ts';
import { formatBytes, formatCount } from '../terminal/format.ts';
import { renderTable } from '../terminal/table.ts';

const HEAD = ['user', 'now', 'change', 'followers', 'posts/day', 'rows/day', 'rows stored', 'bytes'];

/** The result of a threshold: authors to change, pinned authors, and the savings. */
export function renderEvaluation(
  evaluation: Evaluation,
  { limit, borders }: { limit: number; borders: boolean },
): string {
  const { changes, pinned, total, reads, celebrities } = evaluation;
  const lines = [
    `Above ${formatCount(evaluation.threshold)} followers marked, ` +
      `at ${formatCount(evaluation.releaseAt)} and below unmarked: ` +
      `${formatCount(total.marks)} to mark, ${formatCount(total.unmarks)} to unmark; ` +
      `celebrities ${formatCount(celebrities.now)}, then ${formatCount(celebrities.after)}.`,
  ];
  const shown = [
    ...changes.map((author) => [
      String(author.userId),
      author.state,
      author.action,
      author.followers,
      author.postsADay.toFixed(1),
      author.rowsADay,
      author.rows,
      formatBytes(author.bytes),
    ]),
    ...pinned.map((author) => [
      String(author.userId),
      author.state,
      `stays: by hand (${author.wouldBe})`,
      author.followers,
      '',
      '',
      '',
      '',
    ]),
  ];
  if (shown.length > 0 && limit > 0) lines.push(renderTable(HEAD, shown.slice(0, limit), { borders }));
  const hidden = shown.length - limit;
  if (hidden > 0) lines.push(`… and ${formatCount(hidden)} more (--limit, --json).`);
  if (changes.length === 0) return lines.join('\n');
  lines.push(
    `Fan-out: ${worth(total.rowsADay)} rows a day, by the posts of ${evaluation.days} day(s).`,
    `Storage: ${worth(total.rows)} rows, ${formatBytes(Math.abs(total.bytes))}.`,
    `Reads: ${reads.lookupsARead.now} authors merged a read, then ${reads.lookupsARead.after}; ` +
      `${formatCount(reads.more.feeds)} feeds merge ${reads.more.mean.toFixed(1)} more ` +
      `(at most ${formatCount(reads.more.most)}), ` +
      `${formatCount(reads.fewer.feeds)} merge ${reads.fewer.mean.toFixed(1)} fewer.`,
  );
  return lines.join('\n');
}

const worth = (saved: number): string =>
  saved < 0 ? `${formatCount(-saved)} more` : `${formatCount(saved)} fewer`;
