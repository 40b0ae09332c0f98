import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { kubeFlags, timeoutFlag, waitFlag } from '../../cli/flags/kubernetes.ts';
import type { Rollout } from '../../engine/kubernetes/rollout.ts';
import { counted } from '../../engine/model/counted.ts';

interface RestartResult {
  deployment: string;
  namespace: string;
  rollout: Rollout;
  seconds: number;
  dryRun: boolean;
}

export default class WorkerRestart extends BaseCommand {
  static override summary = 'Restart the workers in Kubernetes, a few at a time';
  static override description =
    'Restarts as `kubectl rollout restart` does: each worker drains before it stops. Waits until all ' +
    'pods are new.';
  static override flags = {
    ...kubeFlags,
    wait: waitFlag,
    timeout: timeoutFlag,
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> worker restart',
    '<%= config.bin %> worker restart --yes --timeout 900 --json',
  ];

  async run(): Promise<RestartResult> {
    const { flags } = await this.parse(WorkerRestart);
    const { DEFAULT_NAMESPACE } = await import('../../engine/kubernetes/client.ts');
    const { planRestart, restart } = await import('../../engine/kubernetes/scale.ts');
    const startedAt = performance.now();
    return this.withKubernetes(flags, async (kubernetes) => {
      const plan = await planRestart(kubernetes, kubernetes.namespace ?? DEFAULT_NAMESPACE);
      const { deployment, namespace } = plan;
      const what = `the ${counted(plan.rollout.desired, 'worker')} of ${deployment} in ${namespace}`;
      const dryRun = flags['dry-run'];
      if (dryRun) {
        this.log(`Would restart ${what}.`);
        return { deployment, namespace, rollout: plan.rollout, seconds: 0, dryRun };
      }
      await this.confirm(`Restart ${what}?`, flags.yes ?? false);
      const progress = this.progress('restarting');
      const rollout = await restart(kubernetes, plan, {
        wait: flags.wait,
        timeoutMs: flags.timeout * 1_000,
        onProgress: ({ updated, desired, available }) =>
          progress.update({ done: updated, total: desired, unit: 'workers', note: `${available} available` }),
      }).finally(() => progress.end());
      const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
      this.log(flags.wait ? `Restarted ${what} in ${seconds} s.` : `Restarting ${what}.`);
      return { deployment, namespace, rollout, seconds, dryRun };
    });
  }
}
