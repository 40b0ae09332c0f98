import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';
import { durationFlag } from '../cli/flags/durations.ts';
import { tableFlags } from '../cli/flags/output.ts';
import type { ProbeResult } from '../engine/monitoring/probe.ts';
import { probeVerdict } from '../ui/tables/probe.ts';
import { verdictLine } from '../ui/tables/verdict.ts';

export default class Probe extends BaseCommand {
  static override summary = 'Send one post through the whole live path, and time each leg';
  static override description =
    `Creates a post over HTTP as a temporary user, and waits for it on the WebSocket of a
temporary follower. Both users are erased afterwards.

Exits 1 if the post is late or does not arrive, and names the leg where it is stuck.`;
  static override flags = {
    ...tableFlags,
    'gateway-url': Flags.string({ description: 'URL of the gateway to probe; default: a running one' }),
    'max-ms': durationFlag({
      unit: 'ms',
      description: 'time after which the post is late, in milliseconds or as 1s',
      default: 1_000,
      min: 1,
    }),
    timeout: durationFlag({
      unit: 's',
      description: 'maximum wait for the post',
      default: 10,
      min: 1,
      max: 300,
    }),
  };
  static override examples = [
    '<%= config.bin %> probe',
    '<%= config.bin %> probe --max-ms 200 --json',
    '<%= config.bin %> probe --gateway-url http://gateway-2.example:7070',
  ];

  async run(): Promise<ProbeResult> {
    const { flags } = await this.parse(Probe);
    const { probe } = await import('../engine/monitoring/probe.ts');
    const { signal } = this;
    const result = await this.withCluster(flags, (cluster) =>
      probe(cluster, { maxMs: flags['max-ms'], timeoutMs: flags.timeout * 1_000, signal }),
    );
    this.log(verdictLine(...probeVerdict(result)));
    const ms = (value: number | null) => (value === null ? '-' : `${value} ms`);
    await this.table(
      ['leg', 'after', 'took'],
      result.legs.map(({ leg, atMs, tookMs }) => [leg, ms(atMs), ms(tookMs)]),
    );
    if (!result.cleanedUp)
      this.logToStderr('The path is stuck: the next probe erases the users of this one.');
    if (!result.ok) process.exitCode = 1;
    return result;
  }
}
