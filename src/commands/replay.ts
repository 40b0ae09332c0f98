import { Args } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';
import { dryRunFlag } from '../cli/flags/common.ts';
import type { ImportResult } from '../engine/imports/posts.ts';
import { counted } from '../engine/model/counted.ts';
import { importedLines, importProgress } from '../ui/tables/imports.ts';

export default class Replay extends BaseCommand {
  static override summary = 'Post the rows of an activity file, each at its own time';
  static override description =
    `Each row \`actor target unix-seconds kind\` becomes one post of the actor. Ends when the
last post has been delivered.

Running it again adds nothing; after Ctrl-C, a crash or the loss of a server (exit status 3)
it continues where it stopped.`;
  static override args = { file: Args.string({ description: 'path of the activity file', required: true }) };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> replay activity_time.txt.gz',
    '<%= config.bin %> replay activity.txt --json',
  ];

  async run(): Promise<ImportResult | { rows: number; dryRun: true }> {
    const { args, flags } = await this.parse(Replay);
    const { replay, replayPlan } = await import('../engine/imports/activity.ts');
    const { signal } = this;
    if (flags['dry-run']) {
      const { rows } = await this.withCluster(flags, (cluster) => replayPlan(cluster, args.file, { signal }));
      this.log(
        `Would post ${counted(rows, 'row')}, except those that are posted already. Nothing was changed.`,
      );
      return { rows, dryRun: true };
    }
    const result = await this.withProgress('checking', (progress) =>
      this.withCluster(flags, async (cluster) => {
        await this.warnOfPauses(cluster.db);
        return replay(cluster, args.file, {
          signal,
          onResume: this.onResume,
          onProgress: (imported) => progress.update(importProgress(imported)),
        });
      }),
    );
    this.log(importedLines(result).join('\n'));
    return result;
  }
}
