import type { MergedAuthors } from '../../engine/celebrities/costs.ts';
import type { Evaluation } from '../../engine/celebrities/evaluate.ts';
import { counted } from '../../engine/model/counted.ts';
import { formatBytes, formatCount } from '../terminal/format.ts';
import { renderTable } from '../terminal/table.ts';

const HEAD = ['user', 'now', 'change', 'followers', 'posts/day', 'rows/day', 'rows stored', 'bytes'];

/** The result of a threshold: authors to change, pinned authors, and the savings. */
export function renderEvaluation(
  evaluation: Evaluation,
  { limit, borders, applied }: { limit: number; borders: boolean; applied: boolean },
): string {
  const { changes, pinned, total, reads } = evaluation;
  const lines = [evaluationVerdict(evaluation, applied), ruleText(evaluation)];
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
    `Fan-out: ${worth(total.rowsADay)} rows a day, by the posts of ${counted(evaluation.days, 'day')}.`,
    `Storage: ${worth(total.rows)} rows, ${formatBytes(Math.abs(total.bytes))}.`,
    `Reads: ${reads.lookupsARead.now} celebrities merged a read now, ${reads.lookupsARead.after} then.`,
    ...mergesText(reads.more, 'more'),
    ...mergesText(reads.fewer, 'fewer'),
  );
  return lines.join('\n');
}

const worth = (saved: number): string =>
  saved < 0 ? `${formatCount(-saved)} more` : `${formatCount(saved)} fewer`;

const mergesText = ({ feeds, mean, most }: MergedAuthors, what: 'more' | 'fewer'): string[] =>
  feeds === 0
    ? []
    : [
        `       ${counted(feeds, 'feed merges', 'feeds merge')} ${mean.toFixed(1)} ${what} on average, ` +
          `${formatCount(most)} at most.`,
      ];

/** Says what the rule changes, before the rule and the authors. */
function evaluationVerdict({ total, celebrities }: Evaluation, applied: boolean): string {
  if (total.marks + total.unmarks === 0) return 'No author would change. Nothing was changed.';
  const before = counted(celebrities.now, 'celebrity', 'celebrities');
  const after = `${before} before, ${formatCount(celebrities.after)} then`;
  const marks = counted(total.marks, 'author');
  const unmarks = formatCount(total.unmarks);
  return applied
    ? `${marks} to mark and ${unmarks} to unmark: ${after}.`
    : `Would mark ${marks} and unmark ${unmarks}: ${after}. Nothing was changed.`;
}

const ruleText = ({ threshold, releaseAt }: Evaluation): string =>
  `Rule: mark authors with more than ${counted(threshold, 'follower')}, ` +
  `and unmark those with ${formatCount(releaseAt)} or fewer.`;
