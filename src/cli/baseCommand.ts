import { type Command, Flags } from '@oclif/core';
import type { Cluster } from '../engine/cluster/cluster.ts';
import type { Config, ConfigFlags } from '../engine/config/config.ts';
import { fileVariable, SETTINGS } from '../engine/config/settings.ts';
import type { Kubernetes } from '../engine/kubernetes/client.ts';
import { FeedctlError } from '../engine/model/errors.ts';
import type { LaneState } from '../engine/model/lanes.ts';
import type { Invocation } from '../engine/model/operation.ts';
import { askName, askYes } from './confirm.ts';
import { printError } from './errors.ts';
import { invocationOf, operator } from './invocation.ts';
import { OutputCommand } from './outputCommand.ts';
import { aborted } from './signals.ts';

/** Time for a role to stop: twice what a drain may take, and less than the grace period of the manifests. */
const ROLE_STOP_TIMEOUT_MS = 30_000;
/** Time between the end of a role and the forced end of its process. Errors are printed in it. */
const EXIT_GRACE_MS = 500;

/** Variables that stand for no setting and for no flag. */
const OTHER_VARIABLES = ['FEEDCTL_REEXEC', 'FEEDCTL_TRUST_TRACEPARENT'];
let warnedOfVariables = false;

/**
 * Base of all commands: configuration, clusters, roles and confirmation. A command parses its flags, calls
 * the engine once and prints.
 */
export abstract class BaseCommand extends OutputCommand {
  static override baseFlags = {
    ...OutputCommand.baseFlags,
    context: Flags.string({
      description: 'context of the cluster',
      env: 'FEEDCTL_CONTEXT',
      helpGroup: 'GLOBAL',
    }),
    'context-name': Flags.string({
      description: 'name of the context again, to confirm a change of a production cluster',
      helpGroup: 'GLOBAL',
    }),
    'data-dir': Flags.string({ description: 'directory of the embedded cluster', helpGroup: 'GLOBAL' }),
    'database-url': Flags.string({
      description: 'URL of the database, without a password',
      helpGroup: 'GLOBAL',
    }),
    'broker-url': Flags.string({
      description: 'URLs of the RabbitMQ brokers, without passwords',
      helpGroup: 'GLOBAL',
    }),
    'cache-url': Flags.string({
      description: 'URL of Redis, without a password',
      helpGroup: 'GLOBAL',
    }),
  };

  protected override async init(): Promise<void> {
    await super.init();
    if (!this.ctor.hidden) await this.#warnOfVariables();
  }

  /** Warns once of variables that begin with `FEEDCTL_` and have no effect: a name may be mistyped. */
  async #warnOfVariables(): Promise<void> {
    const given = Object.keys(process.env).filter((name) => name.startsWith('FEEDCTL_'));
    if (warnedOfVariables || given.length === 0) return;
    warnedOfVariables = true;
    const ofFlags = this.config.commands.flatMap(({ flags }) => Object.values(flags).map(({ env }) => env));
    const ofSettings = Object.values(SETTINGS).flatMap(({ variable, secret }) =>
      secret ? [variable, fileVariable(variable)] : [variable],
    );
    const known = new Set(
      [...ofSettings, ...OTHER_VARIABLES, ...ofFlags].filter((name) => name !== undefined),
    );
    if (given.every((name) => known.has(name))) return;
    const { unknownVariables } = await import('./unknownVariables.ts');
    for (const warning of await unknownVariables(process.env, known))
      process.stderr.write(`Warning: ${warning}\n`);
  }

  /** Returns whether the command changes data with these flags: without --dry-run, or with --repair. */
  protected changes(flags: Record<string, unknown>): boolean {
    return flags['dry-run'] === false || flags.repair === true;
  }

  /**
   * The configuration, and whether a change of a production cluster is confirmed. A command reads its
   * configuration once: meanwhile another shell may select another context.
   */
  #configuration:
    | { readonly read: Promise<Config>; confirmed: boolean; confirmedKnown?: boolean }
    | undefined;

  /** Returns the configuration. The first call reads it, and asks before a change of a production cluster. */
  protected async loadConfig(flags: Record<string, unknown>): Promise<Config> {
    this.#configuration ??= { read: this.readConfig(flags), confirmed: false };
    const config = await this.#configuration.read;
    if (this.changes(flags) && !this.#configuration.confirmed) {
      await this.confirmProduction(config, flags);
      this.#configuration.confirmed = true;
    }
    return config;
  }

  protected async readConfig(flags: Record<string, unknown>): Promise<Config> {
    const { loadConfig } = await import('../engine/config/config.ts');
    return loadConfig(settingsOf(flags));
  }

  /** Runs another command with the configuration that this one has read and confirmed. */
  protected async runWithSameConfig(id: string, argv: string[]): Promise<void> {
    const loaded = await this.config.findCommand(id, { must: true }).load();
    const Other = loaded as unknown as new (...args: ConstructorParameters<typeof Command>) => BaseCommand;
    const other = new Other(argv, this.config);
    other.#configuration = this.#configuration;
    await other._run();
  }

  /** Asks for the name of the context if it is a production cluster. */
  protected async confirmProduction(config: Config, flags: Record<string, unknown>): Promise<void> {
    if (!config.production) return;
    await this.confirmName(
      `${config.context} is a production cluster.`,
      config.context,
      flags['context-name'] as string | undefined,
      '--context-name',
    );
  }

  /** Runs `work` with the Kubernetes API that the flags, the context and the kubeconfig name. */
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

  /** Runs `work` with the cluster that the flags name. */
  protected async withCluster<T>(
    flags: Record<string, unknown>,
    work: (cluster: Cluster) => Promise<T>,
  ): Promise<T> {
    const config = await this.loadConfig(flags);
    if (this.changes(flags)) {
      return this.withOpenCluster(config, async (cluster) => {
        await this.#confirmKnownProduction(cluster, flags);
        return work(cluster);
      });
    }
    const onDifference = ({ message, suggestions }: FeedctlError) =>
      this.warnOnStderr(`${message}. ${suggestions[0]}`);
    return this.withOpenCluster(config, work, { onDifference });
  }

  /** Asks before a change if only the database knows that this is a production cluster. */
  async #confirmKnownProduction(cluster: Cluster, flags: Record<string, unknown>): Promise<void> {
    const { config, production } = cluster;
    if (production && !config.production && !this.#configuration?.confirmedKnown)
      await this.confirmProduction({ ...config, production }, flags);
    if (this.#configuration) this.#configuration.confirmedKnown = true;
  }

  /** Runs `work` with the cluster of this configuration. */
  protected async withOpenCluster<T>(
    config: Config,
    work: (cluster: Cluster) => Promise<T>,
    options: { onDifference?: (difference: FeedctlError) => void } = {},
  ): Promise<T> {
    const { openCluster } = await import('../engine/cluster/cluster.ts');
    const cluster = await openCluster(config, { invocation: this.#invocation(), ...options });
    try {
      return await work(cluster);
    } finally {
      await cluster.close();
    }
  }

  /** Runs a role of the cluster until a signal, or until it ends by itself, and then drains it. */
  protected async runRole(
    flags: Record<string, unknown>,
    start: (cluster: Cluster) => Promise<{ ended?: Promise<void> }>,
  ): Promise<void> {
    const config = await this.loadConfig(flags);
    const { openCluster } = await import('../engine/cluster/cluster.ts');
    const { openTelemetry } = await import('../engine/telemetry/telemetry.ts');
    const { signal } = this;
    // Operations of a role do not record this command: `operation resume` would start the role again.
    const invocation = { who: operator() };
    const telemetry = await openTelemetry(this.telemetryOptions(flags));
    try {
      const cluster = await openCluster(config, { ...telemetry, invocation, role: 'one of many' });
      this.stuckAt = () => cluster.resources.current;
      try {
        const { ended } = await start(cluster);
        await aborted(signal, ended);
      } finally {
        const timeout = setTimeout(() => this.#exit(cluster.resources.current), ROLE_STOP_TIMEOUT_MS);
        await cluster.close().finally(() => clearTimeout(timeout));
      }
    } finally {
      // Telemetry closes last, because it reports the shutdown too.
      await this.closeTelemetry(telemetry);
    }
  }

  /**
   * Prints that a role has started, with `more` in the JSON value, and whether it is ready. If it is not,
   * says why, and prints a line when it is. Standard output with --json has one value only.
   */
  protected async announceRole(
    { resources }: Cluster,
    role: { name: string; does: string; check: () => Promise<void>; more: object },
  ): Promise<void> {
    const { becomesReady, startedReady } = await import('../engine/fleet/becomeReady.ts');
    const { name, does, check, more } = role;
    const reason = await startedReady(check);
    if (this.jsonEnabled()) {
      const notReady = reason && { code: reason.name, message: reason.detail };
      this.logJson({ ready: reason === undefined, ...more, ...(notReady && { notReady }) });
    }
    const state = reason ? `has started, not ready: ${reason.name}: ${reason.detail}` : 'is ready';
    this.log([`${name} ${state}.`, does].filter(Boolean).join(' '));
    if (!reason) return;
    const stop = new AbortController();
    resources.add('announcement', () => stop.abort());
    void becomesReady(check, AbortSignal.any([stop.signal, this.signal])).then((ready) => {
      if (!ready) return;
      const line = `${name} is ready.`;
      if (this.jsonEnabled()) process.stderr.write(`${line}\n`);
      else this.log(line);
    });
  }

  /** Sends the last telemetry, then ends the process even if a server leaves a request open. */
  protected async closeTelemetry(telemetry: { close(): Promise<void> }): Promise<void> {
    await telemetry.close();
    // Without such a request the process ends by itself before: the timer does not keep it alive.
    setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
  }

  /** Ends the process of a role whose shutdown waits for a server that does not answer. */
  #exit(stuckAt: string | undefined): never {
    const error = new FeedctlError(
      'STOP_TIMEOUT',
      `not stopped within ${ROLE_STOP_TIMEOUT_MS / 1000} s, stuck at: ${stuckAt}`,
      {
        suggestions: [
          'No work is lost: messages in flight are delivered again.',
          'Run `feedctl doctor`: it shows which server does not answer.',
        ],
      },
    );
    // --json has printed its one value when the role was ready.
    void printError(error, { format: 'text', debug: Boolean(process.env.DEBUG) });
    process.exit(error.exitStatus);
  }

  /** Returns the options that `telemetryFlags` stand for. The service is named after the topic. */
  protected telemetryOptions(flags: Record<string, unknown>) {
    return {
      service: (this.id ?? '').split(':')[0]!,
      version: this.config.version,
      logLevel: flags['log-level'] as string | undefined,
      statsdUrl: flags['statsd-url'] as string | undefined,
    };
  }

  /** Warns of paused lanes, for work that waits until fan-out has finished. */
  protected async warnOfPauses(db: Cluster['db']): Promise<void> {
    const { readLanes } = await import('../engine/store/lanes.ts');
    const { laneNotes } = await import('../ui/tables/lanes.ts');
    for (const note of laneNotes((await readLanes(db)).filter((lane) => lane.paused)))
      this.logToStderr(`${note}: this command waits until the lane is resumed.`);
  }

  #invocation(): Invocation {
    const { flags = {}, baseFlags = {} } = this.ctor;
    return invocationOf({ id: this.id ?? '', flags, baseFlags }, this.argv);
  }

  /** Reports that long work continues an earlier run, and how to start it from the beginning. */
  protected onResume = ({ id, startedAt }: { id: number; startedAt: Date }): void => {
    if (this.jsonEnabled()) return;
    process.stderr.write(
      `Resuming operation ${id} of ${startedAt.toISOString()}. ` +
        `To start from the beginning, first run \`feedctl operation cancel ${id}\`.\n`,
    );
  };

  /** Prints a line for each lane that is paused or throttled: since when, by whom, why, and the fix. */
  protected async logLanes(lanes: readonly LaneState[]): Promise<void> {
    const { laneNotes } = await import('../ui/tables/lanes.ts');
    for (const note of laneNotes(lanes)) this.log(note);
  }

  /** Asks for a yes unless `yes` is given. Throws CONFIRMATION_REQUIRED. */
  protected async confirm(question: string, yes: boolean | undefined): Promise<void> {
    if (!yes) await askYes(question, this.#obstacle());
  }

  /** For severe changes: the name has to be typed, or passed with the flag. Throws CONFIRMATION_REQUIRED. */
  protected async confirmName(
    question: string,
    name: string,
    given: string | undefined,
    flag = '--yes',
  ): Promise<void> {
    await askName(question, name, { given, flag, obstacle: this.#obstacle() });
  }

  #obstacle(): string | undefined {
    if (!process.stdin.isTTY) return 'stdin is not a terminal';
    return this.jsonEnabled() ? '--json was given' : undefined;
  }
}

/** Returns the settings that flags hold. */
export function settingsOf(flags: Record<string, unknown>): ConfigFlags {
  const settings = Object.entries<{ flag?: string; variable: string }>(SETTINGS).flatMap(
    ([name, { flag }]) => (flag ? [[name, flag] as const] : []),
  );
  const given = [['context', 'context'] as const, ...settings].filter(
    ([, flag]) => flags[flag] !== undefined,
  );
  return Object.fromEntries(given.map(([name, flag]) => [name, flags[flag]]));
}
