import { Flags } from '@oclif/core';
import { BenchCommand, countFlag, percentilesText, ratePlot, spanFlag } from '../../cli/benchCommand.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { BenchPushResult } from '../../engine/bench/push/push.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class BenchPush extends BenchCommand {
  static override summary = 'Measure pushing to open sockets against a bare WebSocket server';
  static override description =
    `Compare the ratios, not the rates: a gateway and a bare server of \`ws\` with as many
open sockets take turns in one run on one machine.

Only flags name servers, not contexts or variables: an empty cluster of --database-url,
or else a temporary embedded database.`;
  static override flags = {
    ...tableFlags,
    // All sockets have one address, whose ports limit their number.
    sockets: Flags.integer({
      description: 'number of open sockets at each server',
      default: 10_000,
      min: 100,
      max: 25_000,
    }),
    runs: countFlag('number of posts to all sockets, of each kind', 3, 100),
    rate: countFlag('deliveries a second while the latency is measured', 1_000, 100_000),
    seconds: spanFlag('duration of the latency measurement', 20),
  };
  static override examples = [
    '<%= config.bin %> bench push',
    '<%= config.bin %> bench push --sockets 2000 --runs 1 --seconds 5 --json',
  ];

  async run(): Promise<BenchPushResult> {
    const { flags } = await this.parse(BenchPush);
    const config = await this.loadConfig(flags);
    const { benchPush } = await import('../../engine/bench/push/push.ts');
    const { signal, onProgress } = this;
    const result = await benchPush(config, this.config.version, {
      ...flags,
      signal,
      onProgress,
    });
    const { memory, broadcast, latency } = result;
    const row = (name: string, one: BenchPushResult['broadcast']['bare'], ratio?: number): string[] => [
      name,
      `${formatCount(one.framesPerSecond)}/s`,
      ratio === undefined ? '' : String(ratio),
      `${one.allMs} ms`,
      `${one.cpuMicrosPerFrame} µs`,
    ];
    await this.table(
      [`one post to ${formatCount(result.sockets)} sockets`, 'frames', 'ratio', 'all after', 'CPU a frame'],
      [
        row('bare ws', broadcast.bare),
        row('a celebrity’s', broadcast.celebrity, broadcast.celebrity.ratio),
        row('fanned out', broadcast.fannedOut, broadcast.fannedOut.ratio),
      ],
    );
    this.log(
      `\nMemory a socket: ${formatCount(memory.gatewayBytesPerSocket)} bytes; ` +
        `bare server: ${formatCount(memory.bareBytesPerSocket)}; ratio ${memory.ratio}.`,
    );
    this.log(
      `Request to socket at ${formatCount(latency.deliveriesPerSecond)} deliveries/s: ` +
        `${percentilesText(latency.ms)}, maximum ${latency.ms.max} ms.`,
    );
    this.log(
      `${formatCount(latency.deliveries)} frames of ${formatCount(latency.posts)} posts, ` +
        `${formatCount(latency.missing)} missing, ${formatCount(latency.errors)} errors.`,
    );
    await this.report(result, [
      ratePlot(`frames of one post to ${formatCount(result.sockets)} sockets`, [
        ['bare ws', broadcast.bare.framesPerSecond],
        ['a celebrity’s', broadcast.celebrity.framesPerSecond],
        ['fanned out', broadcast.fannedOut.framesPerSecond],
      ]),
    ]);
    if (latency.missing > 0 || latency.errors > 0) process.exitCode = 1;
    return result;
  }
}
