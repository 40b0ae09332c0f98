import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { rangeFlag } from '../../cli/flags/common.ts';
import type { BenchCrowdResult } from '../../engine/bench/push/crowd.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { formatCount } from '../../ui/terminal/format.ts';

const stagesFlag = Flags.custom<number[]>({
  helpValue: '<n,n,…>',
  parse: async (text) => {
    const stages = text.split(',').map(Number);
    if (!stages.every((people) => Number.isInteger(people) && people >= 1 && people <= 25_000))
      throw new FeedctlError('USAGE', `${JSON.stringify(text)} are no stages such as 1,10,100`);
    return stages;
  },
});

export default class BenchCrowd extends BaseCommand {
  static override summary = 'Measure people who post and listen at the same time, in stages';
  static override description =
    `Each person has a WebSocket, posts, waits and posts again. Every pushed frame is
checked against follows and posts; exits 1 on errors.

The database is a temporary embedded one, or the empty cluster of --database-url.`;
  static override flags = {
    users: Flags.integer({ description: 'number of users', default: 100_000, min: 2, max: 1_000_000 }),
    friends: rangeFlag({ description: 'number of accounts that each user follows', default: [20, 1_000] }),
    stages: stagesFlag({ description: 'number of people in each stage', default: [1, 10, 100, 1_000] }),
    seconds: Flags.integer({ description: 'seconds of each stage', default: 30, min: 1, max: 3_600 }),
    'think-ms': Flags.integer({
      description: 'average milliseconds between two posts of a person',
      default: 2_000,
      min: 0,
      max: 600_000,
    }),
    seed: Flags.integer({ description: 'seed of the random numbers', default: 1, min: 0 }),
  };
  static override examples = [
    '<%= config.bin %> bench crowd',
    '<%= config.bin %> bench crowd --users 2000 --friends 5-50 --stages 1,50 --seconds 5 --json',
  ];

  async run(): Promise<BenchCrowdResult> {
    const { flags } = await this.parse(BenchCrowd);
    const config = await this.loadConfig(flags);
    const most = Math.max(...flags.stages);
    if (most > flags.users)
      throw new FeedctlError('USAGE', `${most} people cannot be chosen among ${flags.users} users`);
    const { benchCrowd } = await import('../../engine/bench/push/crowd.ts');
    const { signal } = this;
    const result = await benchCrowd(config, this.config.version, {
      ...flags,
      thinkMs: flags['think-ms'],
      signal,
      onProgress: (text) => process.stderr.write(`${text}\n`),
    });
    const { machine, stages } = result;
    await this.table(
      [
        'people',
        'posts',
        'posts/s',
        'request p50',
        'p99',
        'deliveries',
        'listening',
        'addressed',
        'found',
        'pushes',
        'expected',
        'push p50',
        'p99',
        'errors',
      ],
      stages.map((stage) => [
        stage.people,
        stage.posts,
        String(stage.postsPerSecond),
        `${stage.requestMs.p50} ms`,
        `${stage.requestMs.p99} ms`,
        stage.deliveries,
        `${(stage.listening * 100).toFixed(1)}%`,
        stage.addressed,
        `${(stage.found * 100).toFixed(1)}%`,
        stage.pushes,
        stage.expected,
        `${stage.pushMs.p50} ms`,
        `${stage.pushMs.p99} ms`,
        stage.errors,
      ]),
    );
    for (const { people, firstError } of stages)
      if (firstError) this.logToStderr(`With ${people} people: ${firstError}`);
    this.log(`
${formatCount(result.users)} users, ${formatCount(result.follows)} follows.
${machine.cores} cores, ${machine.cpu}, ${machine.memoryGiB} GiB, Node ${machine.node}, PostgreSQL ${machine.postgres}, bus ${machine.bus}, cache ${machine.cache}.`);
    if (stages.some((stage) => stage.errors > 0 || stage.pushes !== stage.expected)) process.exitCode = 1;
    return result;
  }
}
