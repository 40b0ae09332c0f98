import { setTimeout as sleep } from 'node:timers/promises';
import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { errorJson } from '../../cli/errors.ts';
import { kubeFlags } from '../../cli/flags/kubernetes.ts';
import type { KubeStatus } from '../../engine/kubernetes/status.ts';
import { isFeedctlError } from '../../engine/model/errors.ts';
import { statusText } from '../../ui/tables/kubernetes.ts';
import { openRepaint } from '../../ui/terminal/repaint.ts';

export default class ClusterStatus extends BaseCommand {
  static override summary = 'Show rollouts, pods, autoscalers and warnings in Kubernetes';
  static override description =
    'Shows the objects with the label app.kubernetes.io/part-of=feedctl. Exits 1 if a deployment has ' +
    'not rolled out, or if a Job, a pod or an autoscaler has a problem.\n\n' +
    '--watch --json prints one line per poll; a failed poll has `error` and is retried.';
  static override flags = {
    ...kubeFlags,
    watch: Flags.boolean({ description: 'poll until Ctrl-C', default: false }),
    interval: Flags.integer({
      description: 'seconds between polls',
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
    const { DEFAULT_NAMESPACE } = await import('../../engine/kubernetes/client.ts');
    const { kubeStatus } = await import('../../engine/kubernetes/status.ts');
    const options = this.tableOptions;
    return this.withKubernetes(flags, async (kubernetes) => {
      const namespace = kubernetes.namespace ?? DEFAULT_NAMESPACE;
      if (!flags.watch) {
        const status = await kubeStatus(kubernetes, namespace);
        this.log(statusText(status, options));
        if (!status.healthy) process.exitCode = 1;
        return status;
      }
      const signal = this.watchSignal();
      const repaint = openRepaint(process.stdout);
      const print = (text: string, value: object) => {
        if (this.jsonEnabled()) process.stdout.write(`${JSON.stringify(value)}\n`);
        else repaint(text);
      };
      let last: string | undefined;
      while (!signal.aborted) {
        try {
          const status = await kubeStatus(kubernetes, namespace);
          last = statusText(status, options);
          print(last, status);
        } catch (error) {
          if (signal.aborted) break;
          // A failure of the first poll is permanent, a later one may be transient.
          if (last === undefined || !isFeedctlError(error)) throw error;
          print(`${last}\nThe last known state. Now: ${error.message} (${error.code})`, errorJson(error));
        }
        await sleep(flags.interval * 1_000, undefined, { signal }).catch(() => {});
      }
      return undefined;
    });
  }
}
