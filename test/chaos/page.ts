import { escaped } from '../../src/ui/bench/report.ts';
import type { ClusterSize } from './cluster.ts';
import type { RoundResult } from './result.ts';
import type { Rule } from './rules.ts';

/** Sums over all rounds of one fault. Times are milliseconds. */
export interface FaultSummary {
  readonly fault: string;
  readonly title: string;
  readonly rounds: number;
  readonly attempted: number;
  readonly acknowledged: number;
  readonly unknown: number;
  readonly frames: number;
  readonly findings: Readonly<Record<Rule, number>>;
  readonly unexpectedEnds: number;
  readonly longestStallMs: number;
  readonly recoveryMs: { readonly median: number; readonly longest: number };
  readonly quietMs: { readonly median: number; readonly longest: number };
}

export interface ChaosReport {
  readonly faults: readonly FaultSummary[];
  readonly rounds: readonly RoundResult[];
  readonly began: string;
  readonly seed: number;
  readonly planted: string | null;
  readonly size: ClusterSize;
  readonly machine: { readonly processor: string; readonly cores: number; readonly memoryGiB: number };
  readonly versions: Readonly<Record<string, string>>;
}

export const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

const COLUMNS: readonly (readonly [title: string, cell: (one: FaultSummary) => string | number])[] = [
  ['fault', ({ title }) => title],
  ['rounds', ({ rounds }) => rounds],
  ['attempted', ({ attempted }) => attempted],
  ['acknowledged', ({ acknowledged }) => acknowledged],
  ['unknown', ({ unknown }) => unknown],
  ['frames', ({ frames }) => frames],
  ['lost', ({ findings }) => findings.lost],
  ['duplicate', ({ findings }) => findings.duplicate],
  ['stranger', ({ findings }) => findings.stranger],
  ['other findings', otherFindings],
  ['longest stall', ({ longestStallMs }) => seconds(longestStallMs)],
  ['recovery, median', ({ recoveryMs }) => seconds(recoveryMs.median)],
  ['longest recovery', ({ recoveryMs }) => seconds(recoveryMs.longest)],
];

export function otherFindings({ findings, unexpectedEnds }: FaultSummary): number {
  const { lost, duplicate, stranger, ...others } = findings;
  return Object.values(others).reduce((sum, n) => sum + n, unexpectedEnds);
}

const row = (cells: readonly (string | number)[], tag: 'td' | 'th'): string =>
  `<tr>${cells.map((cell) => `<${tag}>${escaped(String(cell))}</${tag}>`).join('')}</tr>`;

/** Renders a report as one page without scripts or other files. */
export function page({ faults, rounds, ...about }: ChaosReport): string {
  const head = COLUMNS.map(([title]) => title);
  const rows = faults.map((one) =>
    row(
      COLUMNS.map(([, cell]) => cell(one)),
      'td',
    ),
  );
  const found = rounds.flatMap(findingsOf);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>feedctl chaos</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
  table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .8rem .15rem 0; }
  pre { background: #f4f4f4; overflow: auto; padding: 1rem; }
</style>
<h1>feedctl chaos</h1>
<p>Recovery is the time from the end of a fault until posts arrive again through every gateway.</p>
<table>${row(head, 'th')}${rows.join('')}</table>
<h2>Findings</h2>
${found.join('\n') || '<p>None.</p>'}
<h2>Run</h2>
<pre>${escaped(JSON.stringify(about, null, 2))}</pre>
</html>
`;
}

const findingsOf = ({ fault, seed, findings }: RoundResult): string[] =>
  findings.map(
    ({ rule, user, detail, history }) =>
      `<h3>${escaped(`${rule}: user ${user}, ${detail}`)}</h3>
<p>${escaped(fault)}, seed ${seed}</p>
<pre>${escaped(history.join('\n'))}</pre>`,
  );
