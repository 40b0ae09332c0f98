import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { CacheReport } from '../../engine/gateway/operator/cacheStats.ts';

export default class CacheStats extends BaseCommand {
  static override summary = 'Show the state of the feed cache, with hits and misses of each gateway';
  static override description =
    `Counts begin when a gateway starts, and are those of its last report, about a second
ago. Exits 3 if a gateway has not reported for 15 s.`;
  static override flags = listFlags;
  static override examples = ['<%= config.bin %> cache stats', '<%= config.bin %> cache stats --json'];

  async run(): Promise<CacheReport> {
    const { flags } = await this.parse(CacheStats);
    const { cacheStats } = await import('../../engine/gateway/operator/cacheStats.ts');
    const report = await this.withCluster(flags, ({ db, sharedCache }) => cacheStats(db, sharedCache));
    const rate = report.hitRate === null ? 'no reads' : `${(100 * report.hitRate).toFixed(1)}% hits`;
    this.log(`${report.kind}: ${report.ready ? '' : 'UNAVAILABLE, '}${report.detail}; ${rate}`);
    if (report.gateways.length > 0)
      await this.table(
        ['gateway', 'hits', 'misses', 'refills', 'failures'],
        report.gateways.map((one) => [one.url, one.hits, one.misses, one.refills, one.failures]),
      );
    for (const { reason } of report.unreachable) this.logToStderr(`Unknown: ${reason}`);
    if (report.unreachable.length > 0) process.exitCode = 3;
    return report;
  }
}
