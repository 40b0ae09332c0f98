import { Flags } from '@oclif/core';
import { BenchCommand, spanFlag, timePlot } from '../../cli/benchCommand.ts';
import { rangeFlag } from '../../cli/flags/common.ts';
import { durationFlag } from '../../cli/flags/durations.ts';
import { tableFlags } from '../../cli/flags/output.ts';
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

export default class BenchCrowd extends BenchCommand {
  static override summary = 'Measure people who post and listen at the same time, in stages';
  static override description =
    `Each person has a WebSocket, posts, waits and posts again. Every pushed frame is
checked against follows and posts; exits 1 on errors.

Only flags name servers, not contexts or variables: an empty cluster of --database-url,
or else a temporary embedded database.`;
  static override flags = {
    ...tableFlags,
    users: Flags.integer({ description: 'number of users', default: 100_000, min: 2, max: 1_000_000 }),
    friends: rangeFlag({ description: 'number of accounts that each user follows', default: [20, 1_000] }),
    stages: stagesFlag({ description: 'number of people in each stage', default: [1, 10, 100, 1_000] }),
    seconds: spanFlag('duration of each stage', 30),
    'think-ms': durationFlag({
      unit: 'ms',
      description: 'average time between two posts of a person, in milliseconds or as 1s',
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
    const people = Math.max(...flags.stages);
    if (people > flags.users)
      throw new FeedctlError(
        'USAGE',
        `a stage has ${people} people, but there are only ${flags.users} users`,
      );
    const { benchCrowd } = await import('../../engine/bench/push/crowd.ts');
    const { signal, onProgress } = this;
    const result = await benchCrowd(config, this.config.version, {
      ...flags,
      thinkMs: flags['think-ms'],
      signal,
      onProgress,
    });
    const { stages } = result;
    await this.table(
      COLUMNS.map(([name]) => name),
      stages.map((stage) => COLUMNS.map(([, cell]) => cell(stage))),
    );
    for (const { people, firstError } of stages)
      if (firstError) this.logToStderr(`With ${people} people: ${firstError}`);
    this.log(`\n${formatCount(result.users)} users, ${formatCount(result.follows)} follows.`);
    await this.report(result, [
      timePlot(
        'p99 from the request to the socket, by people',
        stages.map((stage) => [String(stage.people), stage.pushMs.p99] as const),
      ),
    ]);
    if (stages.some((stage) => stage.errors > 0 || stage.pushes !== stage.expected)) process.exitCode = 1;
    return result;
  }
}

type Stage = BenchCrowdResult['stages'][number];

const ms = (value: number): string => `${value} ms`;
const percent = (share: number): string => `${(share * 100).toFixed(1)}%`;

const COLUMNS: readonly (readonly [name: string, cell: (stage: Stage) => string | number])[] = [
  ['people', (stage) => stage.people],
  ['posts', (stage) => stage.posts],
  ['posts/s', (stage) => String(stage.postsPerSecond)],
  ['request p50', (stage) => ms(stage.requestMs.p50)],
  ['p99', (stage) => ms(stage.requestMs.p99)],
  ['deliveries', (stage) => stage.deliveries],
  ['listening', (stage) => percent(stage.listening)],
  ['addressed', (stage) => stage.addressed],
  ['found', (stage) => percent(stage.found)],
  ['pushes', (stage) => stage.pushes],
  ['expected', (stage) => stage.expected],
  ['push p50', (stage) => ms(stage.pushMs.p50)],
  ['p99', (stage) => ms(stage.pushMs.p99)],
  ['errors', (stage) => stage.errors],
];
