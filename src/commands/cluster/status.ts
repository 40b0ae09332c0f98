import { setTimeout as sleep } from 'node:timers/promises';
import { Flags } from '@oclif/core';
import { BaseCommand } from '../../baseCommand.ts';
import type { KubeStatus } from '../../engine/kube/status.ts';
import { kubeFlags } from '../../kubeFlags.ts';
import { statusText } from '../../ui/kube.ts';
import { openRepaint } from '../../ui/repaint.ts';

export default class ClusterStatus extends BaseCommand {
  static override summary = 'Show how the cluster is in Kubernetes: rollouts, pods, autoscalers, warnings';
  static override description =
    'Of what bears the label app.kubernetes.io/part-of=feedctl. Exits 1 where a deployment has not rolled out, a pod has a reason not to run, or an autoscaler is at a loss. With --watch --json each look is a line of its own.';
  static override flags = {
    ...kubeFlags,
    watch: Flags.boolean({ description: 'look again and again, until Ctrl-C', default: false }),
    interval: Flags.integer({
      description: 'seconds between looks',
      default: 2,
      min: 1,
      dependsOn: ['watch'],
    }),
  };
  static override examples = [
    '<%= config.bin %> cluster status',
    '<%= config.bin %> cluster status --namespace feedctl-dev --json',
  ];

  async run(): Promise<KubeStatus | undefined> {
    const { flags } = await this.parse(ClusterStatus);
    const { DEFAULT_NAMESPACE } = await import('../../engine/kube/client.ts');
    const { kubeStatus } = await import('../../engine/kube/status.ts');
    const options = { borders: Boolean(process.stdout.isTTY) };
    return this.withKubernetes(flags, async (kubernetes) => {
      const namespace = kubernetes.namespace ?? DEFAULT_NAMESPACE;
      if (!flags.watch) {
        const status = await kubeStatus(kubernetes, namespace);
        this.log(statusText(status, options));
        if (!status.healthy) process.exitCode = 1;
        return status;
      }
      const { signal } = this;
      const repaint = openRepaint(process.stdout);
      while (!signal.aborted) {
        const status = await kubeStatus(kubernetes, namespace);
        if (this.jsonEnabled()) process.stdout.write(`${JSON.stringify(status)}\n`);
        else repaint(statusText(status, options));
        await sleep(flags.interval * 1_000, undefined, { signal }).catch(() => {});
      }
      return undefined;
    });
  }
}
