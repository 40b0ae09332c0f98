import { setFlagsFromString } from 'node:v8';
import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';
import type { Config } from '../engine/config/config.ts';
import { FeedctlError } from '../engine/model/errors.ts';
import type { ScaleWorkers, TopAction } from '../engine/monitoring/top/actions.ts';
import type { TopCollector } from '../engine/monitoring/top/collect.ts';
import type { TopSnapshot } from '../engine/monitoring/top/snapshot.ts';
import { settleWithin } from '../engine/util/deadline.ts';
import { topText } from '../ui/top/printSnapshot.ts';

/** One that is no terminal has no width: as most people's screens. */
const WIDTH = 120;
const LEAST_WIDTH = 40;
/** What does not end in that time, as a server says nothing any more, is left behind. */
const LEAVE_MS = 400;
/** What a frame leaves behind is taken away soon, and nothing is compiled for a speed that nobody needs. */
const SMALL = [
  '--semi-space-growth-factor=1',
  '--optimize-for-size',
  '--max-lazy',
  '--no-maglev',
  '--no-turbofan',
];

export default class Top extends BaseCommand {
  static override summary = 'Watch the cluster: rates, latency, backlog, and what is wrong, on one screen';
  static override description =
    'Posts, deliveries and pushes a second, post-to-feed p50 and p99, online sockets, backlog and when it will be gone; queues, workers, gateways, shards, celebrities and hot users, operations and recent errors in panes. ? shows the keys. It keeps looking while the database or the broker is away, and says how old what it shows is. Read-only unless --admin, which offers to drain, pause, rebuild, mark and scale, and asks before each; of a production cluster the name has to be typed. Without a terminal, with --once or --json it prints one snapshot and exits 0; `status` has an exit status for monitoring. Rates are of the processes that run: what one did goes with it. Each source is asked at most once an interval, and for at most 5% of the time.';
  static override flags = {
    once: Flags.boolean({ description: 'print one snapshot as text and exit', exclusive: ['admin'] }),
    interval: Flags.string({ description: 'seconds between two looks, 0.5 to 60', default: '1' }),
    admin: Flags.boolean({ description: 'offer keys that change the cluster' }),
  };
  static override examples = [
    '<%= config.bin %> top',
    '<%= config.bin %> top --interval 5 --admin',
    '<%= config.bin %> top --once',
    '<%= config.bin %> top --json',
  ];

  async run(): Promise<TopSnapshot | undefined> {
    const { flags } = await this.parse(Top);
    const intervalSeconds = parseInterval(flags.interval);
    const atTerminal =
      process.stdin.isTTY && process.stdout.isTTY && process.env.TERM !== 'dumb' && !this.jsonEnabled();
    const live = atTerminal && !flags.once;
    if (flags.admin && !live)
      throw new FeedctlError('USAGE', '--admin needs a terminal: its keys are typed', {
        suggestions: [
          'Leave --admin away, or use the commands: `feedctl worker drain`, `fanout pause` and so on.',
        ],
      });
    // It is there for hours, and next to idle: 106 MB with these, and 160 without.
    for (const flag of SMALL) setFlagsFromString(flag);
    const config = await this.loadConfig(flags);
    const { openTop } = await import('../engine/monitoring/top/collect.ts');
    const collector = await openTop(config, { complete: !live });
    try {
      if (live) {
        await this.#watch(collector, config, { intervalSeconds, admin: flags.admin ?? false });
        return undefined;
      }
      const snapshot = collector.snapshot();
      const width = process.stdout.isTTY ? Math.max(LEAST_WIDTH, process.stdout.columns) : WIDTH;
      this.log(topText(snapshot, { width, colours: hasColours() && process.stdout.isTTY }));
      return snapshot;
    } finally {
      await settleWithin(LEAVE_MS, collector.close());
      // Sessions and actions that hang would keep the process; what is printed has been written by then.
      setTimeout(() => process.exit(), LEAVE_MS).unref();
    }
  }

  async #watch(
    collector: TopCollector,
    config: Config,
    { intervalSeconds, admin }: { intervalSeconds: number; admin: boolean },
  ): Promise<void> {
    // React's other build is slower and bigger.
    process.env.NODE_ENV ??= 'production';
    const { liveTop } = await import('../ui/top/live.tsx');
    const { signal } = this;
    const leaving = new AbortController();
    const scale = admin ? await scalerOf(config) : undefined;
    this.drawing = true;
    const view = liveTop({
      stdin: process.stdin,
      stdout: process.stdout,
      intervalSeconds,
      colours: hasColours(),
      admin: admin
        ? { production: config.production ? config.context : undefined, scale: scale !== undefined }
        : undefined,
      snapshot: () => collector.snapshot(),
      refresh: (intervalMs) => collector.refresh(intervalMs),
      act: (action) =>
        this.#act(config, action, { scale, signal: AbortSignal.any([signal, leaving.signal]) }),
      signal,
    });
    collector.onChange = view.changed;
    try {
      const busy = await view.ended;
      if (busy) this.logToStderr(`Left before it was done: ${busy}.`);
    } finally {
      this.drawing = false;
      leaving.abort();
    }
  }

  /** With sessions of its own, as the command of that name has. */
  async #act(
    config: Config,
    action: TopAction,
    options: { scale: ScaleWorkers | undefined; signal: AbortSignal },
  ): Promise<string> {
    const { performAction } = await import('../engine/monitoring/top/actions.ts');
    return this.withOpenCluster(config, (cluster) => performAction(cluster, action, options));
  }
}

/** Workers are scaled where the context or the environment says where they run in Kubernetes, or this runs in a pod. */
async function scalerOf({ kubeContext, namespace }: Config): Promise<ScaleWorkers | undefined> {
  const { namespaceOfPod } = await import('../engine/kubernetes/kubeconfig.ts');
  const { DEFAULT_NAMESPACE, openKubernetes } = await import('../engine/kubernetes/client.ts');
  if (!(kubeContext ?? namespace ?? (await namespaceOfPod()))) return undefined;
  return async (replicas, signal) => {
    const { planScale, scale } = await import('../engine/kubernetes/scale.ts');
    const kubernetes = await openKubernetes({ kubeContext, namespace, signal });
    try {
      const request = { to: 'replicas', replicas } as const;
      const change = await planScale(kubernetes, kubernetes.namespace ?? DEFAULT_NAMESPACE, request);
      await scale(kubernetes, change, { dryRun: false });
      return change.plan.change;
    } finally {
      await kubernetes.close();
    }
  };
}

/** https://no-color.org: whatever its value, unless it is empty. */
const hasColours = (): boolean => !process.env.NO_COLOR;

function parseInterval(text: string): number {
  const seconds = /^\d{1,2}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(seconds >= 0.5 && seconds <= 60))
    throw new FeedctlError('USAGE', `--interval ${text} is not between 0.5 and 60 seconds`);
  return seconds;
}
