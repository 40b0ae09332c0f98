import { counted } from '../../src/engine/model/counted.ts';
import { type ChaosReport, type FaultSummary, otherFindings, seconds } from './page.ts';

const COLUMNS: readonly (readonly [title: string, cell: (one: FaultSummary) => string | number])[] = [
  ['fault', ({ fault }) => fault],
  ['rounds', ({ rounds }) => rounds],
  ['lost', ({ findings }) => findings.lost],
  ['duplicate', ({ findings }) => findings.duplicate],
  ['stranger', ({ findings }) => findings.stranger],
  ['other', otherFindings],
  ['longest stall', ({ longestStallMs }) => seconds(longestStallMs)],
  ['recovery: median', ({ recoveryMs }) => seconds(recoveryMs.median)],
  ['longest', ({ recoveryMs }) => seconds(recoveryMs.longest)],
];

const row = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |\n`;

/** Renders a report as a table of Markdown, and a sentence about the run. */
export function table({ faults, rounds, machine, versions, seed, size }: ChaosReport): string {
  const attempted = faults.reduce((sum, one) => sum + one.attempted, 0);
  const frames = faults.reduce((sum, one) => sum + one.frames, 0);
  const count = (n: number) => n.toLocaleString('en-US');
  const servers = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const about = [
    `${machine.cores} cores, ${machine.memoryGiB} GiB, ${servers.join(', ')}.`,
    `${counted(size.brokers, 'broker')}, ${size.workers} workers, ${size.gateways} gateways,`,
    `${size.sentinels ? 'Redis with sentinels' : 'one Redis'}.`,
    `Seed ${seed}: ${rounds.length} rounds, ${count(attempted)} changes, ${count(frames)} frames.`,
  ];
  const head = row(COLUMNS.map(([title]) => title)) + row(COLUMNS.map(() => '---'));
  const rows = faults.map((one) => row(COLUMNS.map(([, cell]) => cell(one))));
  return `${about.join('\n')}\n\n${head}${rows.join('')}`;
}
