import { createInterface } from 'node:readline/promises';
import { Command, Flags } from '@oclif/core';
import type { Cluster } from '../engine/cluster/cluster.ts';
import type { Config, ConfigFlags } from '../engine/config/config.ts';
import { SETTINGS } from '../engine/config/settings.ts';
import type { Kubernetes } from '../engine/kubernetes/client.ts';
import { FeedctlError } from '../engine/model/errors.ts';
import type { Invocation } from '../engine/model/operation.ts';
import { openProgress, type ProgressLine } from '../ui/terminal/progress.ts';
import { errorJson, printError, toFeedctlError } from './errors.ts';
import { invocationOf, operator } from './invocation.ts';

/** A shutdown that takes longer says what it is stuck at. */
const STUCK_AFTER_MS = 15_000;
const FORCED_EXIT_STATUS = 130;
/** Twice what a drain may take, and less than the grace period of the manifests. */
const ROLE_END_MS = 30_000;
/** Time between the end of a role and the forced end of its process. Errors are printed in it. */
const EXIT_GRACE_MS = 500;

/**
 * What every command has in common: configuration, JSON, errors and their exit status, signals. A command parses,
 * calls the engine once and prints.
 */
export abstract class BaseCommand extends Command {
  static override enableJsonFlag = true;
  static override baseFlags = {
    context: Flags.string({
      description: 'the cluster to work on',
      env: 'FEEDCTL_CONTEXT',
      helpGroup: 'GLOBAL',
    }),
    'context-name': Flags.string({
      description: 'name of the context once more, to confirm a change of a production cluster',
      helpGroup: 'GLOBAL',
    }),
    'data-dir': Flags.string({ description: 'directory of the embedded cluster', helpGroup: 'GLOBAL' }),
    'database-url': Flags.string({
      description: 'database of the cluster, without a password',
      helpGroup: 'GLOBAL',
    }),
    'broker-url': Flags.string({
      description: 'RabbitMQ brokers of the cluster, without a password',
      helpGroup: 'GLOBAL',
    }),
    'cache-url': Flags.string({
      description: 'Redis of the cluster, without a password',
      helpGroup: 'GLOBAL',
    }),
  };

  #stop: AbortController | undefined;

  /** Aborts at the first SIGINT or SIGTERM; the second ends the process at once. */
  protected get signal(): AbortSignal {
    this.#stop ??= this.#listenForSignals();
    return this.#stop.signal;
  }

  /** The same for what prints until it is ended: it aborts, too, when nobody reads any more (`feedctl … | head -1`). */
  protected watchSignal(): AbortSignal {
    const closed = new AbortController();
    process.stdout.once('error', () => closed.abort());
    return AbortSignal.any([this.signal, closed.signal]);
  }

  /** Whether it changes data with these flags. Every command that does can be rehearsed; verifying changes where it repairs. */
  protected changes(flags: Record<string, unknown>): boolean {
    return flags['dry-run'] === false || flags.repair === true;
  }

  protected async loadConfig(flags: Record<string, unknown>): Promise<Config> {
    const { loadConfig } = await import('../engine/config/config.ts');
    const config = await loadConfig(settingsOf(flags));
    if (this.changes(flags)) await this.confirmProduction(config, flags);
    return config;
  }

  /** Asks for the name of the context where it is a production cluster. */
  protected async confirmProduction(config: Config, flags: Record<string, unknown>): Promise<void> {
    if (!config.production) return;
    await this.confirmName(
      `${config.context} is a production cluster.`,
      config.context,
      flags['context-name'] as string | undefined,
      '--context-name',
    );
  }

  /** Opens the Kubernetes API that the flags, the context and the kubeconfig name, for as long as `work` takes. */
  protected async withKubernetes<T>(
    flags: Record<string, unknown>,
    work: (kubernetes: Kubernetes, config: Config) => Promise<T>,
  ): Promise<T> {
    const config = await this.loadConfig(flags);
    const { openKubernetes } = await import('../engine/kubernetes/client.ts');
    const { kubeContext, namespace } = config;
    const kubernetes = await openKubernetes({ kubeContext, namespace, signal: this.signal });
    try {
      return await work(kubernetes, config);
    } finally {
      await kubernetes.close();
    }
  }

  /** Opens the cluster the flags name, for as long as `work` takes. */
  protected async withCluster<T>(
    flags: Record<string, unknown>,
    work: (cluster: Cluster) => Promise<T>,
  ): Promise<T> {
    return this.withOpenCluster(await this.loadConfig(flags), work);
  }

  /** The same for one whose configuration is read already. */
  protected async withOpenCluster<T>(config: Config, work: (cluster: Cluster) => Promise<T>): Promise<T> {
    const { openCluster } = await import('../engine/cluster/cluster.ts');
    const cluster = await openCluster(config, { invocation: this.#invocation() });
    try {
      return await work(cluster);
    } finally {
      await cluster.close();
    }
  }

  /** Runs a role of the cluster until a signal, or until what `start` waits for, then drains it. */
  protected async runRole(
    flags: Record<string, unknown>,
    start: (cluster: Cluster) => Promise<{ ended?: Promise<void> }>,
  ): Promise<void> {
    const config = await this.loadConfig(flags);
    const { openCluster } = await import('../engine/cluster/cluster.ts');
    const { openTelemetry } = await import('../engine/telemetry/telemetry.ts');
    const { signal } = this;
    // What a role does by itself is not this command over again.
    const invocation = { who: operator() };
    const telemetry = await openTelemetry(this.telemetryOptions(flags));
    try {
      const cluster = await openCluster(config, { ...telemetry, invocation });
      this.stuckAt = () => cluster.resources.current;
      try {
        const { ended } = await start(cluster);
        await aborted(signal, ended);
      } finally {
        const late = setTimeout(() => this.#leave(cluster.resources.current), ROLE_END_MS);
        await cluster.close().finally(() => clearTimeout(late));
      }
    } finally {
      await this.closeTelemetry(telemetry);
    }
  }

  /** Sends the last telemetry, then ends the process even if a server leaves a request open. */
  protected async closeTelemetry(telemetry: { close(): Promise<void> }): Promise<void> {
    await telemetry.close();
    // Without such a request the process ends by itself before: the timer does not keep it alive.
    setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
  }

  /** Ends the process of a role that waits for a server which says nothing, and whose connections would keep it for as long. */
  #leave(stuckAt: string | undefined): never {
    const error = new FeedctlError(
      'STOP_TIMEOUT',
      `not stopped within ${ROLE_END_MS / 1000} s, stuck at: ${stuckAt}`,
      {
        suggestions: [
          'Nothing is lost: what it held comes again. `feedctl doctor` says which server does not answer.',
        ],
      },
    );
    // That it is ready has been printed: with --json, a second value would leave no JSON.
    printError(error, { json: false, debug: Boolean(process.env.DEBUG) });
    process.exit(error.exitStatus);
  }

  /** What `telemetryFlags` say, for a process that is called by the topic of its command. */
  protected telemetryOptions(flags: Record<string, unknown>) {
    return {
      service: (this.id ?? '').split(':')[0]!,
      version: this.config.version,
      logLevel: flags['log-level'] as string | undefined,
      statsdUrl: flags['statsd-url'] as string | undefined,
    };
  }

  /** For work that waits until fan-out has done everything: says where it will wait for an operator. */
  protected async warnOfPauses(db: Cluster['db']): Promise<void> {
    const { readLanes } = await import('../engine/store/lanes.ts');
    const { laneNotes } = await import('../ui/tables/lanes.ts');
    for (const note of laneNotes((await readLanes(db)).filter((lane) => lane.paused)))
      this.logToStderr(`${note}: this waits until it goes on.`);
  }

  #invocation(): Invocation {
    const { flags = {}, baseFlags = {} } = this.ctor;
    return invocationOf({ id: this.id ?? '', flags, baseFlags }, this.argv);
  }

  /** For long work: says that an earlier run is gone on with, and how to begin anew. */
  protected onResume = ({ id, startedAt }: { id: number; startedAt: Date }): void => {
    if (!this.jsonEnabled())
      process.stderr.write(
        `Going on with operation ${id} of ${startedAt.toISOString()}; \`feedctl operation cancel ${id}\` would begin anew.\n`,
      );
  };

  /** A line on stderr that shows how far long work has come. */
  protected progress(title: string): ProgressLine {
    return openProgress(title, process.stderr);
  }

  /** Throws CONFIRMATION_REQUIRED where nobody can be asked, or where the answer is no. */
  protected async confirm(question: string, yes: boolean): Promise<void> {
    if (yes) return;
    const answer = await this.#ask(`${question} [y/N] `, question);
    if (!/^y(es)?$/i.test(answer))
      throw new FeedctlError('CONFIRMATION_REQUIRED', 'not confirmed: nothing was changed');
  }

  /**
   * For what is severe: the name of what is changed has to be typed, or passed with the flag. Throws
   * CONFIRMATION_REQUIRED where it is another, or where nobody can be asked.
   */
  protected async confirmName(
    question: string,
    name: string,
    given: string | undefined,
    flag = '--yes',
  ): Promise<void> {
    const pass = { suggestions: [`Pass ${flag} ${name} to confirm without being asked.`] };
    const typed = given ?? (await this.#ask(`${question} Type ${name} to confirm: `, question, pass));
    if (typed !== name)
      throw new FeedctlError(
        'CONFIRMATION_REQUIRED',
        `${JSON.stringify(typed)} is not ${name}: nothing was changed`,
        pass,
      );
  }

  async #ask(prompt: string, question: string, options?: { suggestions: string[] }): Promise<string> {
    if (!process.stdin.isTTY || this.jsonEnabled())
      throw new FeedctlError('CONFIRMATION_REQUIRED', `${question} Nobody is there to ask.`, options);
    const terminal = createInterface({ input: process.stdin, output: process.stderr });
    const answer = await terminal.question(prompt);
    terminal.close();
    return answer.trim();
  }

  #listenForSignals(): AbortController {
    const controller = new AbortController();
    const onSignal = () => {
      if (controller.signal.aborted) process.exit(FORCED_EXIT_STATUS);
      controller.abort();
      if (process.stderr.isTTY && !this.drawing) process.stderr.write('\nStopping; once more to force.\n');
      setTimeout(() => {
        process.stderr.write(`Still stopping${this.stuckAt() ? `: ${this.stuckAt()}` : ''}.\n`);
      }, STUCK_AFTER_MS).unref();
    };
    process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
    return controller;
  }

  /** A live view is on the screen: nothing is written across it. */
  protected drawing = false;

  /** What a role that stops is waiting for. */
  protected stuckAt: () => string | undefined = () => undefined;

  /** A value has been printed with --json: a second one would leave no JSON. */
  #answered = false;

  protected override logJson(json: unknown): void {
    this.#answered = true;
    process.stdout.write(`${JSON.stringify(json, null, 2)}\n`);
  }

  protected override toErrorJson(error: unknown): unknown {
    return errorJson(toFeedctlError(error, this.id));
  }

  protected override async catch(error: Error & { oclif?: { exit?: number } }): Promise<void> {
    if (error.oclif?.exit === 0) throw error;
    const mapped = toFeedctlError(error, this.id);
    const json = this.jsonEnabled() && !this.#answered;
    printError(mapped, { json, debug: Boolean(process.env.DEBUG) });
    process.exitCode = mapped.exitStatus;
    throw Object.assign(mapped, { reported: true });
  }
}

/** The settings that flags name. */
export function settingsOf(flags: Record<string, unknown>): ConfigFlags {
  const settings = Object.entries<{ flag?: string; variable: string }>(SETTINGS).flatMap(
    ([name, { flag }]) => (flag ? [[name, flag] as const] : []),
  );
  const given = [['context', 'context'] as const, ...settings].filter(
    ([, flag]) => flags[flag] !== undefined,
  );
  return Object.fromEntries(given.map(([name, flag]) => [name, flags[flag]]));
}

/** Waits for the signal, or for `other` if that comes first, and keeps the process alive as long. */
export async function aborted<T = never>(signal: AbortSignal, other?: Promise<T>): Promise<T | undefined> {
  const alive = setInterval(() => {}, 1 << 30);
  const stop = Promise.withResolvers<undefined>();
  const onAbort = () => stop.resolve(undefined);
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    return await (other ? Promise.race([stop.promise, other]) : stop.promise);
  } finally {
    clearInterval(alive);
    signal.removeEventListener('abort', onAbort);
  }
}
