import type { DemoResult } from '../../engine/demo/demo.ts';
import { formatCount } from '../terminal/format.ts';
import { renderTable } from '../terminal/table.ts';

/** Two tables, the work and the proof, and the verdict. */
export function demoSummary(result: DemoResult, options: { borders: boolean }): string {
  const { latencyMs, postToSocketMs, verify } = result;
  const work = renderTable(
    ['what', 'result'],
    [
      ['users', formatCount(result.users)],
      ['follows', formatCount(result.follows)],
      ['posts', formatCount(result.posts)],
      [
        'deliveries (feed rows written)',
        `${formatCount(result.deliveries)}, ${formatCount(result.deliveriesPerSecond)}/s`,
      ],
      ['posts of celebrities, merged when read', formatCount(result.merged)],
      ['pushed to sockets', formatCount(result.pushed)],
      [
        'post to feed under full load',
        `p50 ${latencyMs.p50} ms, p95 ${latencyMs.p95} ms, p99 ${latencyMs.p99} ms`,
      ],
      ['post to socket, one at a time', `p50 ${postToSocketMs.p50} ms, at most ${postToSocketMs.max} ms`],
      ['the whole demo', `${result.seconds} s`],
    ],
    options,
  );
  const proof = renderTable(
    ['proof', 'compared', 'missing', 'strangers', 'duplicates'],
    [
      ['feeds in the database', verify.checked, verify.missing, verify.strangers, verify.duplicates],
      [
        'posts pushed to sockets',
        verify.sockets.expected,
        verify.sockets.missing,
        verify.sockets.strangers,
        verify.sockets.duplicates,
      ],
    ],
    options,
  );
  const verdict =
    verify.mismatched + verify.readsMismatched === 0
      ? 'Every feed is as it should be.'
      : `${formatCount(verify.mismatched)} feeds differ from the truth, ` +
        `${formatCount(verify.readsMismatched)} read wrongly.`;
  return `${work}\n${proof}\n${verdict}`;
}
