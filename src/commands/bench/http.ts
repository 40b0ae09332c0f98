import { BenchCommand, countFlag, ratePlot, spanFlag } from '../../cli/benchCommand.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { BenchHttpResult } from '../../engine/bench/http/http.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class BenchHttp extends BenchCommand {
  static override summary = 'Measure a feed over HTTP against a bare route with the same bytes';
  static override description =
    `Compare the ratio, not the rates: a gateway and a bare route of fastify take turns
in one run on one machine. Limits on requests are off.

Only flags name servers, not contexts or variables: an empty cluster of --database-url,
or else a temporary embedded database.`;
  static override flags = {
    ...tableFlags,
    readers: countFlag('number of users who read in turn', 500, 100_000),
    connections: countFlag('number of connections', 64, 1_000),
    runs: countFlag('number of runs of each kind', 5, 100),
    seconds: spanFlag('duration of each run', 5),
  };
  static override examples = [
    '<%= config.bin %> bench http --cache-url redis://localhost',
    '<%= config.bin %> bench http --runs 1 --seconds 2 --json',
  ];

  async run(): Promise<BenchHttpResult> {
    const { flags } = await this.parse(BenchHttp);
    const config = await this.loadConfig(flags);
    const { benchHttp } = await import('../../engine/bench/http/http.ts');
    const { signal, onProgress } = this;
    const result = await benchHttp(config, this.config.version, {
      ...flags,
      signal,
      onProgress,
    });
    const row = (name: string, rate: BenchHttpResult['feed']): string[] => [
      name,
      `${formatCount(rate.requestsPerSecond)}/s`,
      `${formatCount(rate.bytesPerResponse)} B`,
      ...[rate.ms.p50, rate.ms.p95, rate.ms.p99].map((ms) => `${ms} ms`),
    ];
    await this.table(
      [`${result.connections} connections`, 'requests', 'body', 'p50', 'p95', 'p99'],
      [row('bare route', result.bare), row('GET /post/feed', result.feed)],
    );
    this.log(`\nRatio ${result.ratio} (each run: ${result.ratios.join(', ')}).`);
    await this.report(result, [
      ratePlot('requests', [
        ['bare route', result.bare.requestsPerSecond],
        ['GET /post/feed', result.feed.requestsPerSecond],
      ]),
    ]);
    return result;
  }
}
