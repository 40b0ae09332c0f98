import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';
import { durationFlag } from '../cli/flags/durations.ts';
import type { Config } from '../engine/config/config.ts';
import { counted } from '../engine/model/counted.ts';
import { FeedctlError } from '../engine/model/errors.ts';
import type { ScaleWorkers, TopAction } from '../engine/monitoring/top/actions.ts';
import type { TopCollector } from '../engine/monitoring/top/collect.ts';
import type { TopSnapshot } from '../engine/monitoring/top/snapshot.ts';
import { settleWithin } from '../engine/util/deadline.ts';
import { viewOf } from '../ui/top/panes.ts';
import { topText } from '../ui/top/printSnapshot.ts';
import { THEME_NAMES, type Theme } from '../ui/top/styledText.ts';
import { isAtTerminal, keepSmall, themeOf } from '../ui/top/terminal.ts';

/** Columns of a snapshot for a pipe or a file. */
const WIDTH = 120;
const MIN_WIDTH = 40;
/** Maximum wait for servers that do not answer when `top` ends. */
const SHUTDOWN_TIMEOUT_MS = 400;
interface WatchFlags {
  readonly intervalSeconds: number;
  readonly admin: boolean;
  readonly mouse: boolean;
  readonly bell: boolean;
  readonly theme: Theme;
  readonly record?: string | undefined;
}

export default class Top extends BaseCommand {
  static override summary = 'Watch rates, latency, backlog and problems of the cluster on one screen';
  static override description =
    `Press ? for the keys. It is read-only unless --admin, which offers to drain, pause,
rebuild, mark and scale, and asks before each.

Without a terminal, with --once or with --json, it prints one snapshot and exits 0.`;
  static override flags = {
    once: Flags.boolean({ description: 'print one snapshot as text and exit', exclusive: ['admin'] }),
    interval: durationFlag({
      unit: 's',
      description: 'time between two updates, 250ms to 60s',
      default: 1,
      min: 0.25,
      max: 60,
    }),
    admin: Flags.boolean({ description: 'enable keys that change the cluster' }),
    theme: Flags.option({
      options: THEME_NAMES,
      description: 'colours of the screen: mono has none',
      default: 'dark' as const,
      env: 'FEEDCTL_TOP_THEME',
    })(),
    mouse: Flags.boolean({ description: 'choose tabs and rows by clicks', default: true, allowNo: true }),
    bell: Flags.boolean({ description: 'ring the bell of the terminal when a problem appears' }),
    record: Flags.string({
      description: 'write each view to a new file, compressed if its name ends in .gz',
      helpValue: 'FILE',
      exclusive: ['once'],
    }),
  };
  static override examples = [
    '<%= config.bin %> top',
    '<%= config.bin %> top --interval 5 --admin',
    '<%= config.bin %> top --record monday.ndjson.gz',
    '<%= config.bin %> top --once',
    '<%= config.bin %> top --json',
  ];

  async run(): Promise<TopSnapshot | undefined> {
    const { flags } = await this.parse(Top);
    const intervalSeconds = flags.interval;
    const live = isAtTerminal() && !this.jsonEnabled() && !flags.once;
    if (flags.record !== undefined && !live)
      throw new FeedctlError('USAGE', '--record needs a terminal: it writes the views of the screen', {
        suggestions: ['Omit --record: `feedctl top --json` prints one view.'],
      });
    if (flags.admin && !live)
      throw new FeedctlError('USAGE', '--admin needs a terminal: its keys are typed', {
        suggestions: ['Omit --admin, or use the commands: `feedctl worker drain`, `fanout pause` and so on.'],
      });
    // `top` runs for hours and is almost idle: 106 MB with these flags, 160 MB without.
    keepSmall();
    const config = await this.loadConfig(flags);
    const { openTop } = await import('../engine/monitoring/top/collect.ts');
    const collector = await openTop(config, { complete: !live });
    try {
      if (live) {
        await this.#watch(collector, config, { ...flags, intervalSeconds });
        return undefined;
      }
      const snapshot = collector.snapshot();
      const width = process.stdout.isTTY ? Math.max(MIN_WIDTH, process.stdout.columns) : WIDTH;
      this.log(topText(snapshot, { width, theme: process.stdout.isTTY && themeOf(flags.theme) }));
      return snapshot;
    } finally {
      await settleWithin(SHUTDOWN_TIMEOUT_MS, collector.close());
      // Sessions that hang would keep the process alive. The output has been written by then.
      setTimeout(() => process.exit(), SHUTDOWN_TIMEOUT_MS).unref();
    }
  }

  async #watch(collector: TopCollector, config: Config, flags: WatchFlags): Promise<void> {
    const { intervalSeconds, admin, mouse, bell } = flags;
    const { openRecorder } = await import('../engine/monitoring/top/recording.ts');
    const { lastPane, rememberPane, saveExport } = await import('../engine/monitoring/top/files.ts');
    const { liveTop } = await import('../ui/top/live.tsx');
    const { signal } = this;
    const recorder = flags.record === undefined ? undefined : await openRecorder(flags.record);
    const leaving = new AbortController();
    const scale = admin ? await scalerOf(config) : undefined;
    this.drawing = true;
    const view = liveTop({
      stdin: process.stdin,
      stdout: process.stdout,
      intervalSeconds,
      theme: themeOf(flags.theme),
      mouse,
      bell,
      recorder,
      pane: viewOf(await lastPane()),
      admin: admin
        ? { production: config.production ? config.context : undefined, scale: scale !== undefined }
        : undefined,
      snapshot: () => collector.snapshot(),
      refresh: (intervalMs, shown) => collector.refresh(intervalMs, shown),
      save: async ({ name, text, rows }) =>
        `${counted(rows, 'row is', 'rows are')} in ${await saveExport(name, text)}`,
      act: (action) =>
        this.#act(config, action, { scale, signal: AbortSignal.any([signal, leaving.signal]) }),
      signal,
    });
    collector.onChange = view.changed;
    try {
      const { busy, pane } = await view.ended;
      await rememberPane(pane);
      if (busy) this.logToStderr(`Ended before it was finished: ${busy}.`);
    } finally {
      this.drawing = false;
      leaving.abort();
      await recorder?.close();
    }
    if (recorder?.error) throw recorder.error;
    if (recorder) this.logToStderr(`${counted(recorder.count, 'view is', 'views are')} in ${recorder.path}.`);
  }

  /** Performs an action with separate sessions, like the command of that name. */
  async #act(
    config: Config,
    action: TopAction,
    options: { scale: ScaleWorkers | undefined; signal: AbortSignal },
  ): Promise<string> {
    const { performAction } = await import('../engine/monitoring/top/actions.ts');
    return this.withOpenCluster(config, (cluster) => performAction(cluster, action, options));
  }
}

/** Returns a function that scales workers, if a setting names their place in Kubernetes, or this is a pod. */
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
