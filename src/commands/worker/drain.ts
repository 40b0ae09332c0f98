import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { durationFlag } from '../../cli/flags/durations.ts';
import { counted } from '../../engine/model/counted.ts';

interface DrainResult {
  workerId: string;
  host: string;
  pid: number;
  seconds: number;
  drained: boolean;
  dryRun: boolean;
}

export default class WorkerDrain extends BaseCommand {
  static override summary = 'Let a worker finish its messages in flight, and stop it';
  static override description =
    `Works like SIGTERM: the worker takes no more messages, finishes those in flight and
exits with 0, and other workers take over. Waits until the worker has left.

A supervisor may start the process again.`;
  static override args = {
    worker: Args.string({ description: 'id of the worker, or its beginning', required: true }),
  };
  static override flags = {
    timeout: durationFlag({ unit: 's', description: 'maximum wait', default: 30, min: 1 }),
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> worker drain 943e8033',
    '<%= config.bin %> worker drain 943e8033-dc64-43be-a622-b3ac83f15c68 --yes --json',
  ];

  async run(): Promise<DrainResult> {
    const { args, flags } = await this.parse(WorkerDrain);
    const { drainWorker, planWorkerDrain } = await import('../../engine/fleet/drain.ts');
    const { signal } = this;
    return this.withCluster(flags, async ({ db }) => {
      const { worker, others } = await planWorkerDrain(db, args.worker);
      const { id: workerId, host, pid } = worker;
      const what = `the worker on ${host} (process ${pid})`;
      const elsewhere =
        others > 0
          ? `${counted(others, 'other worker continues', 'other workers continue')}.`
          : 'No other worker runs: posts wait until one does.';
      const dryRun = flags['dry-run'];
      if (dryRun) {
        this.log(`Would drain ${what}. ${elsewhere}`);
        return { workerId, host, pid, seconds: 0, drained: false, dryRun };
      }
      await this.confirm(`${elsewhere} Drain ${what}?`, flags.yes);
      const { seconds } = await drainWorker(db, workerId, { timeoutMs: flags.timeout * 1_000, signal });
      this.log(`Drained ${what} in ${seconds} s.`);
      return { workerId, host, pid, seconds, drained: true, dryRun };
    });
  }
}
