import {
  BenchCommand,
  countFlag,
  percentilesText,
  storedFlags,
  storedOf,
  timePlot,
} from '../../cli/benchCommand.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { BenchReadResult } from '../../engine/bench/read.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class BenchRead extends BenchCommand {
  static override summary = 'Measure a page of a feed against the join of follows and posts';
  static override description =
    `Compare the ratios, not the times: all ways of reading take turns in one run on one
machine.

Only flags name servers, not contexts or variables: an empty cluster of --database-url,
or else a temporary embedded database.`;
  static override flags = {
    ...tableFlags,
    readers: countFlag('number of readers without celebrities, and of readers with them', 1_000, 100_000),
    authors: countFlag('number of authors', 4_000, 100_000),
    followees: countFlag('number of authors that each reader follows', 400, 10_000),
    posts: countFlag('number of posts of each author', 20, 1_000),
    reads: countFlag('number of pages of each kind', 1_000),
    mix: countFlag('number of pages of the mix, with readers by Zipf’s law', 40_000, 10_000_000),
    'reads-a-post': countFlag('number of pages of the mix for each new post', 100),
    ...storedFlags,
  };
  static override examples = [
    '<%= config.bin %> bench read --cache-url redis://localhost',
    '<%= config.bin %> bench read --readers 200 --reads 200 --json',
  ];

  async run(): Promise<BenchReadResult> {
    const { flags } = await this.parse(BenchRead);
    const config = await this.loadConfig(flags);
    const { benchRead } = await import('../../engine/bench/read.ts');
    const { signal, onProgress } = this;
    const result = await benchRead(config, this.config.version, {
      ...flags,
      readsAPost: flags['reads-a-post'],
      stored: storedOf(flags),
      signal,
      onProgress,
    });
    const { kinds, mix } = result;
    const row = (name: string, one: (typeof kinds)['join']): string[] => [
      name,
      ...[one.p50, one.p95, one.p99].map((ms) => `${ms} ms`),
      String(one.queriesPerRead),
    ];
    await this.table(
      [`page of ${result.page}`, 'p50', 'p95', 'p99', 'queries'],
      [
        row('join of follows and posts', kinds.join),
        row('from the table', kinds.uncached),
        row('cached', kinds.cached),
        row('celebrities, from the table', kinds.celebrityUncached),
        row('celebrities, cached', kinds.celebrityCached),
        row('first read of a feed', kinds.cold),
        row('mix', mix),
      ],
    );
    this.log(
      `\nCached against the join: ${result.speedup} times as fast, ` +
        `with celebrities ${result.celebritySpeedup} times.`,
    );
    this.log(
      `Mix: ${formatCount(mix.reads)} pages and ${formatCount(mix.posts)} posts, ` +
        `${formatCount(mix.hits)} hits, ${formatCount(mix.misses)} misses; ` +
        `${formatCount(mix.queries)} queries, ` +
        `${formatCount(mix.queriesUncached)} without a cache (${Math.round(mix.saved * 100)}% saved).`,
    );
    if (result.stored)
      this.log(
        `Pages of users with ${formatCount(result.stored.rows)} stored rows, from the table: ` +
          `${percentilesText(result.stored.pageMs)}.`,
      );
    await this.report(result, [
      timePlot(`median of a page of ${result.page}`, [
        ['join of follows and posts', kinds.join.p50],
        ['from the table', kinds.uncached.p50],
        ['cached', kinds.cached.p50],
        ['celebrities, from the table', kinds.celebrityUncached.p50],
        ['celebrities, cached', kinds.celebrityCached.p50],
        ['first read of a feed', kinds.cold.p50],
      ]),
    ]);
    return result;
  }
}
