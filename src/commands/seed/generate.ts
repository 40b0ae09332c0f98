import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { celebrityThresholdFlag, dryRunFlag, rangeFlag } from '../../cli/flags/common.ts';
import { counted } from '../../engine/model/counted.ts';
import { importProgress } from '../../ui/tables/imports.ts';
import { formatDuration } from '../../ui/terminal/format.ts';

interface Result {
  users: number;
  follows: number;
  celebrities: number;
  posts: number;
  deliveries: number;
  merged: number;
  seconds: number;
}

export default class SeedGenerate extends BaseCommand {
  static override summary = 'Generate a follow graph and posts; the same seed makes the same data';
  static override description =
    `The graph is heavy-tailed: most users follow few, and few are followed by very many.
Posts take the usual path, and are spread over 30 days.`;
  static override flags = {
    users: Flags.integer({
      description: 'number of users; their ids begin at 1',
      default: 100_000,
      min: 2,
      max: 100_000_000,
    }),
    follows: rangeFlag({
      description: 'number of accounts that a user follows, from-to',
      default: async () => [20, 1000],
    }),
    posts: rangeFlag({ description: 'number of posts of a user, from-to', default: async () => [20, 30] }),
    seed: Flags.integer({ description: 'seed of the random numbers', default: 42, min: 0, max: 2 ** 32 - 1 }),
    'celebrity-threshold': celebrityThresholdFlag,
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> seed generate --users 1000 --follows 5-100 --posts 1-5',
    '<%= config.bin %> seed generate --users 100000 --follows 20-1000 --posts 20-30 --seed 42 --json',
  ];

  async run(): Promise<Result> {
    const { flags } = await this.parse(SeedGenerate);
    const options = { users: flags.users, follows: flags.follows, posts: flags.posts, seed: flags.seed };
    const { checkGenerateOptions, generate } = await import('../../engine/imports/generate.ts');
    checkGenerateOptions(options);
    const { signal } = this;
    const { graph, posts } = await this.withProgress('making follows', (progress) =>
      this.withCluster(flags, (cluster) =>
        generate(
          cluster,
          options,
          {
            celebrityThreshold: flags['celebrity-threshold'],
            dryRun: flags['dry-run'],
            signal,
            onProgress: (done, title) => progress.update({ title, done, unit: 'pairs' }),
          },
          {
            signal,
            onResume: this.onResume,
            onProgress: (imported) => progress.update(importProgress(imported)),
          },
        ),
      ),
    );
    const result = {
      users: graph.users,
      follows: graph.follows,
      celebrities: graph.celebrities,
      posts: posts?.posts ?? 0,
      deliveries: posts?.deliveries ?? 0,
      merged: posts?.merged ?? 0,
      seconds: graph.seconds + (posts?.seconds ?? 0),
    };
    this.log(generatedLine(result, { dryRun: flags['dry-run'] }));
    return result;
  }
}

function generatedLine(result: Result, { dryRun }: { dryRun: boolean }): string {
  const { users, follows, posts, deliveries, seconds } = result;
  const graph = `${counted(users, 'user')}, ${counted(follows, 'follow')}`;
  // A rehearsal makes no posts, so it cannot count new ones.
  if (dryRun) return `Would make ${graph}, and the posts. Nothing was changed.`;
  if (users + follows + posts === 0) return 'Nothing to do: all of these users, follows and posts exist.';
  const made = `${graph} and ${counted(posts, 'post')} (${counted(deliveries, 'delivery', 'deliveries')})`;
  return `Made ${made} in ${formatDuration(seconds)}.`;
}
