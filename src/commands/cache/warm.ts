import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import type { Readers, WarmResult } from '../../engine/gateway/operator/warmCache.ts';
import { counted } from '../../engine/model/counted.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { parseId } from '../../engine/model/ids.ts';
import { formatCount, formatDuration } from '../../ui/terminal/format.ts';

export default class CacheWarm extends BaseCommand {
  static override summary = 'Load feeds into Redis before they are read, for instance after a flush';
  static override description =
    `Loads feeds of the named users, of the most active readers (--hot), or of a file with
one user id a line. Feeds that are in the cache already do not change.

Exits 3 if feeds are left after failures or Ctrl-C; run it again for those.`;
  static override strict = false;
  static override usage = 'cache warm [USER...] [--hot <value> | --file <path>]';
  static override flags = {
    hot: Flags.integer({
      description: 'number of the most active readers',
      min: 1,
      max: 10_000,
      exclusive: ['file'],
    }),
    file: Flags.string({ description: 'file with one user id a line', helpValue: '<path>' }),
    rate: Flags.integer({ description: 'maximum feeds a second', default: 200, min: 1 }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> cache warm --hot 500',
    '<%= config.bin %> cache warm 42 43 --json',
    '<%= config.bin %> cache warm --file users.txt.gz --rate 50',
  ];

  async run(): Promise<WarmResult> {
    const { argv, flags } = await this.parse(CacheWarm);
    const readers = readersOf(argv as string[], flags);
    const { warmCache } = await import('../../engine/gateway/operator/warmCache.ts');
    const { signal } = this;
    const result = await this.withProgress('warming', (progress) =>
      this.withCluster(flags, (cluster) =>
        warmCache(cluster, readers, {
          signal,
          rate: flags.rate,
          dryRun: flags['dry-run'],
          onProgress: (done, total) => progress.update({ done, total, unit: 'feeds' }),
        }),
      ),
    );
    const { warmed, held, failed, reason, left, seconds } = result;
    const loaded = counted(warmed - held, 'feed');
    const others = `${formatCount(held)} were cached already`;
    if (result.dryRun) this.log(`Would load ${loaded}; ${others}.`);
    else this.log(`Loaded ${loaded} in ${formatDuration(seconds)}; ${others}.`);
    if (failed > 0) this.logToStderr(`${formatCount(failed)} could not be loaded: ${reason}`);
    if (left > 0) this.logToStderr(`Stopped: ${formatCount(left)} are left; the same command continues.`);
    if (failed + left > 0) process.exitCode = 3;
    return result;
  }
}

function readersOf(
  users: readonly string[],
  { hot, file }: { hot?: number | undefined; file?: string | undefined },
): Readers {
  if ([users.length > 0, hot !== undefined, file !== undefined].filter(Boolean).length !== 1)
    throw new FeedctlError(
      'USAGE',
      'no users, or in more than one way, were chosen: pass one of USER..., --hot and --file',
    );
  if (file !== undefined) return { file };
  if (hot !== undefined) return { hot };
  return { users: [...new Set(users.map((text) => parseId(text, 'user')))] };
}
