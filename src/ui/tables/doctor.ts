import { styleText } from 'node:util';
import type { Check } from '../../engine/model/check.ts';
import { counted } from '../../engine/model/counted.ts';
import type { DoctorReport } from '../../engine/monitoring/doctor.ts';
import { type Verdict, verdictLine } from './verdict.ts';

const LABELS = { fault: 'FAULT', warning: 'WARNING', ok: 'ok' } as const;
const COLOURS = { fault: 'red', warning: 'yellow', ok: 'green' } as const;
const ORDER = Object.keys(LABELS) as Check['status'][];

function verdict({ context, checks }: DoctorReport): [Verdict, string] {
  const number = (status: Check['status']) => checks.filter((check) => check.status === status).length;
  const [faults, warnings, fine] = [number('fault'), number('warning'), number('ok')];
  const passed = `${counted(fine, 'check')} passed`;
  if (faults > 0) {
    const also = warnings > 0 ? ` and ${counted(warnings, 'warning')}` : '';
    return ['bad', `${context} has ${counted(faults, 'fault')}${also}; ${passed}.`];
  }
  if (warnings > 0) return ['doubtful', `${context} works, with ${counted(warnings, 'warning')}; ${passed}.`];
  return ['good', `${context} has no fault: ${passed}.`];
}

function checkLines({ name, status, detail, fix }: Check): string[] {
  const label = styleText(COLOURS[status], LABELS[status].padEnd(8), { stream: process.stdout });
  return [`${label} ${name}: ${detail}`, ...(fix ? [`         Try: ${fix}`] : [])];
}

/** The result in a sentence, then faults, warnings and what is well. */
export const reportLines = (report: DoctorReport): string[] => [
  verdictLine(...verdict(report)),
  ...ORDER.flatMap((status) => report.checks.filter((check) => check.status === status)).flatMap(checkLines),
];

/** One line of the settings that were not given: values by default, then those without a value. */
export function defaultsLine(settings: DoctorReport['settings']): string {
  const [unset, set] = [true, false].map((none) =>
    settings.filter(({ value }) => (value === '(none)') === none),
  );
  const parts = [
    ...(set!.length > 0
      ? [`By default: ${set!.map(({ name, value }) => `${name} ${value}`).join(', ')}.`]
      : []),
    ...(unset!.length > 0 ? [`Not set: ${unset!.map(({ name }) => name).join(', ')}.`] : []),
  ];
  return parts.join('\n');
}
