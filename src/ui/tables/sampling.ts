import { mismatchText, type Sampling } from '../../engine/model/sample.ts';

/** One line about the feeds that are compared in the background. */
export function samplingLine(sampling: Sampling): string {
  const { lastAt, checked, checkedCached, waiting, mismatched, last } = sampling;
  if (lastAt === null && checkedCached === 0) return 'sampled feeds: none compared yet';
  const { missing, strangers, cache } = mismatched;
  const counts = [
    `${checked} compared`,
    `${checkedCached} cached`,
    `${missing} missing posts`,
    `${strangers} with strangers`,
    `${cache} cached differed`,
    ...(waiting > 0 ? [`${waiting} waiting for messages in flight`] : []),
  ];
  return [
    `sampled feeds: ${counts.join(', ')}${lastAt === null ? '' : `; last look ${lastAt}`}`,
    ...(last ? [`last mismatch: ${mismatchText(last)} (${last.at})`] : []),
  ].join('\n');
}
