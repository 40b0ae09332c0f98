import { Command, type Interfaces } from '@oclif/core';
import type { FeedctlError } from '../engine/model/errors.ts';
import type { Column } from '../ui/columns/column.ts';
import { openProgress, type ProgressLine } from '../ui/terminal/progress.ts';
import type { TableOptions } from '../ui/terminal/table.ts';
import { asciiOnly, hasColours } from '../ui/terminal/terminal.ts';
import { errorJson, printError, toFeedctlError } from './errors.ts';
import { outputFlags, watchFlags } from './flags/output.ts';
import { flagWords, type Output, outputOf, printedFormat } from './outputFormat.ts';
import { listenForSignals } from './signals.ts';

/** How the table of a command is printed, when only the table is wanted. */
interface Asked {
  readonly output: Output;
  readonly columns: string | undefined;
  readonly headers: boolean;
  readonly quiet: boolean;
  /** Time between two views of --watch. */
  readonly intervalMs: number;
}

/** Time between two views without --interval. */
const DEFAULT_INTERVAL_S = 2;

type Flags = Record<string, unknown>;

/** Base of all commands: what they print, in which form, again and again with --watch, and their errors. */
export abstract class OutputCommand extends Command {
  static override enableJsonFlag = true;
  static override baseFlags = outputFlags;

  #asked: Asked = {
    output: outputOf(this.argv),
    columns: undefined,
    headers: true,
    quiet: false,
    intervalMs: 0,
  };
  /** Renders YAML. oclif prints the result without waiting, so it is loaded before. */
  #yamlText: ((value: unknown) => string) | undefined;
  /** Whether the value of the command is printed. A second value would make the output invalid. */
  #answered = false;
  /** Lines of the current view of --watch on a terminal. */
  #view: string[] | undefined;
  /** Whether the table of this command, or of this view, is printed. */
  #printedTable = false;

  /** Paints states such as NOT READY; set if stdout shows colours. */
  #paint = (text: string): string => text;

  protected override async init(): Promise<void> {
    await super.init();
    if (hasColours(process.stdout, process.env))
      this.#paint = (await import('../ui/terminal/states.ts')).paintStates;
    if (this.#asked.output === 'yaml') this.#yamlText = (await import('./yaml.ts')).yamlText;
    if (!flagWords(this.argv).includes('--watch')) return;
    const { openRepaint } = await import('../ui/terminal/repaint.ts');
    this.#repaint = openRepaint(process.stdout);
    if (this.ctor.flags?.watch === watchFlags.watch) {
      const run = this.run.bind(this);
      this.run = () => this.#repeat(run);
    }
  }

  /** Parses the words, and explains what is wrong with them. */
  protected override async parse<F extends Flags, B extends Flags, A extends Flags>(
    options?: Interfaces.Input<F, B, A>,
    argv?: string[],
  ): Promise<Interfaces.ParserOutput<F, B, A>> {
    const parsed = await super.parse(options, argv).catch(async (error) => {
      throw await this.#explained(error);
    });
    const flags: Flags = parsed.flags;
    this.#asked = {
      output: (flags.json ? 'json' : (flags.output ?? 'table')) as Output,
      columns: flags.columns as string | undefined,
      headers: flags['no-headers'] !== true,
      quiet: flags.quiet === true,
      intervalMs: Number(flags.interval ?? DEFAULT_INTERVAL_S) * 1_000,
    };
    return parsed;
  }

  async #explained(error: unknown): Promise<unknown> {
    const { explainParseError } = await import('./parseErrors.ts');
    const { args, flags, baseFlags, examples = [], id } = this.ctor;
    const lines = examples.map((one) => (typeof one === 'string' ? one : one.command));
    const command = {
      name: id.replaceAll(':', ' '),
      args,
      flags: { json: { type: 'boolean' }, ...baseFlags, ...flags },
      examples: lines.map((line) => line.replace('<%= config.bin %>', this.config.bin)),
    };
    return explainParseError(error, command, this.argv) ?? error;
  }

  /** Returns whether only a value for programs is printed: JSON or YAML. */
  override jsonEnabled(): boolean {
    return this.ctor.enableJsonFlag && printedFormat(this.argv) !== 'text';
  }

  /** Whether the table is all that is printed on stdout: as CSV, as names, or in chosen columns. */
  get #tableOnly(): boolean {
    const { output, columns, headers } = this.#asked;
    return output === 'csv' || output === 'name' || columns !== undefined || !headers || this.#idsOnly;
  }

  /** Whether --quiet leaves the ids of a list. */
  get #idsOnly(): boolean {
    const { output, columns, quiet } = this.#asked;
    return quiet && output === 'table' && columns === undefined && Boolean(this.id?.endsWith(':list'));
  }

  override log(message = '', ...args: unknown[]): void {
    if (!this.#tableOnly) this.#print(message, ...args);
  }

  /** Prints a note on stderr. On a screen that is drawn again it is part of the view. */
  override logToStderr(message = '', ...args: unknown[]): void {
    if (this.#asked.quiet) return;
    if (this.#view && !this.#tableOnly) this.#print(message, ...args);
    else super.logToStderr(message, ...args);
  }

  /** Prints a warning on stderr, also with --json. */
  protected warnOnStderr(warning: string): void {
    if (this.#view && !this.jsonEnabled() && !this.#tableOnly) this.#view.push(`Warning: ${warning}`);
    else process.stderr.write(`Warning: ${warning}\n`);
  }

  #print(message: string, ...args: unknown[]): void {
    const text = this.#paint(message);
    if (this.#view && !this.jsonEnabled()) this.#view.push(text);
    else super.log(text, ...args);
  }

  /** Options of every table that the command renders. Borders are for a terminal. */
  protected get tableOptions(): TableOptions {
    const { stdout, env } = process;
    const { output, columns, headers } = this.#asked;
    const form = this.#idsOnly ? 'name' : output;
    return {
      borders: Boolean(stdout.isTTY),
      ascii: asciiOnly(env),
      colours: hasColours(stdout, env),
      whole: output === 'wide',
      headers,
      // Fields below each other would not fit on a screen that is drawn again.
      rowsOnly: this.#view !== undefined,
      ...(this.#tableOnly && { only: { form, columns, print: (text) => this.#printTable(text) } }),
    };
  }

  /** Prints the first table of the command: the others explain it. */
  #printTable(text: string): void {
    if (!this.#printedTable && text !== '') this.#print(text.replace(/\n$/, ''));
    this.#printedTable = true;
  }

  /** Prints a table, or the text `empty` if there are no rows. Prints nothing with --json. */
  protected async table(
    head: string[],
    rows: (string | number)[][],
    { empty, ...options }: Partial<TableOptions> & { empty?: string } = {},
  ): Promise<void> {
    if (this.jsonEnabled()) return;
    if (rows.length === 0 && empty !== undefined && !this.#tableOnly) return this.log(empty);
    const { renderTable } = await import('../ui/terminal/table.ts');
    this.log(renderTable(head, rows, { ...this.tableOptions, ...options }));
  }

  /** Prints a list, or the text `empty` if there are no rows. Prints nothing with --json. */
  protected async list<Row>(
    columns: readonly Column<Row>[],
    rows: readonly Row[],
    empty: string,
  ): Promise<void> {
    if (this.jsonEnabled()) return;
    if (rows.length === 0 && !this.#tableOnly) return this.log(empty);
    const { renderList } = await import('../ui/columns/column.ts');
    this.log(renderList(columns, rows, this.tableOptions));
  }

  /** Opens a line on stderr that shows how far long work has come. */
  protected progress(title: string): ProgressLine {
    if (this.#asked.quiet) return { update: () => {}, end: () => {} };
    return openProgress(title, process.stderr);
  }

  /** Shows on stderr how far `work` has come, for as long as it takes. */
  protected async withProgress<T>(title: string, work: (progress: ProgressLine) => Promise<T>): Promise<T> {
    const progress = this.progress(title);
    try {
      return await work(progress);
    } finally {
      progress.end();
    }
  }

  /**
   * Shows what `print` prints over the view before, on a terminal, or below it elsewhere. With --json it is
   * the value that `print` returns, in one line.
   */
  protected showView(print: () => unknown): void {
    this.#view = [];
    this.#printedTable = false;
    this.#endView(print());
  }

  #endView(value: unknown): void {
    const text = (this.#view ?? []).join('\n');
    this.#view = undefined;
    if (this.jsonEnabled()) this.printStreamed(value);
    else this.#repaint(text);
  }

  /** Draws views; set if the command repeats one. */
  #repaint = (text: string): void => void process.stdout.write(`${text}\n`);

  /** Prints one of several values: a line of JSON, or a document of YAML. */
  protected printStreamed(value: unknown): void {
    const text = this.#yamlText ? `---\n${this.#yamlText(value)}` : `${JSON.stringify(value)}\n`;
    process.stdout.write(text);
  }

  /** Runs the command again and again, for --watch. The result is in the views. */
  async #repeat(run: () => Promise<unknown>): Promise<void> {
    const { repeatView } = await import('./watch.ts');
    let shown: string[] = [];
    const view = async () => {
      this.#view = [];
      this.#printedTable = false;
      const value = await run();
      shown = this.#view;
      this.#endView(value);
    };
    const onError = (error: FeedctlError) => {
      this.#view = [...shown, `The last known state. Now: ${error.message} (${error.code})`];
      this.#endView(errorJson(error));
    };
    const signal = this.watchSignal();
    await repeatView(view, { intervalMs: () => this.#asked.intervalMs, signal, onError });
    // The exit status is that of a view that was ended, not that of its last state.
    process.exitCode = 0;
  }

  #signal: AbortSignal | undefined;

  /** Aborts at the first SIGINT or SIGTERM. The second one ends the process immediately. */
  protected get signal(): AbortSignal {
    this.#signal ??= listenForSignals(
      () => this.drawing,
      () => this.stuckAt(),
    );
    return this.#signal;
  }

  /** Like `signal`, but also aborts when the reader of stdout closes the pipe (`feedctl … | head -1`). */
  protected watchSignal(): AbortSignal {
    const closed = new AbortController();
    process.stdout.once('error', () => closed.abort());
    return AbortSignal.any([this.signal, closed.signal]);
  }

  /** Whether a live view is on the screen, which text on stderr would damage. */
  protected drawing = false;

  /** Returns what a shutdown waits for. */
  protected stuckAt: () => string | undefined = () => undefined;

  protected override logJson(json: unknown): void {
    this.#answered = true;
    process.stdout.write(this.#yamlText?.(json) ?? `${JSON.stringify(json, null, 2)}\n`);
  }

  protected override async catch(error: Error & { oclif?: { exit?: number } }): Promise<void> {
    if (error.oclif?.exit === 0) throw error;
    const mapped = toFeedctlError(error, this.id);
    const format = this.jsonEnabled() && !this.#answered ? printedFormat(this.argv) : 'text';
    await printError(mapped, { format, debug: Boolean(process.env.DEBUG) });
    process.exitCode = mapped.exitStatus;
    throw Object.assign(mapped, { reported: true });
  }
}
