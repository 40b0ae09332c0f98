import { render, useInput } from 'ink';
import { FeedctlError, messageOf } from '../../engine/model/errors.ts';
import type { TopAction } from '../../engine/monitoring/top/actions.ts';
import { History } from '../../engine/monitoring/top/history.ts';
import type { PaneSource } from '../../engine/monitoring/top/paneSources.ts';
import type { Recorder } from '../../engine/monitoring/top/recording.ts';
import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { Admin } from './actions.ts';
import { Alarm } from './alarm.ts';
import { type Exported, exportPane } from './exportPane.ts';
import { frame } from './frame.ts';
import { keysOf } from './keyNames.ts';
import { layOut } from './layout.ts';
import { keyOfMouse, listenToMouse, MOUSE_OFF, MOUSE_ON, type MouseReport } from './mouse.ts';
import type { ViewId } from './pane.ts';
import { RowWriter } from './rowWriter.ts';
import type { Screen } from './screen.ts';
import type { OrderMemory } from './sorting.ts';
import { reduce } from './state.ts';
import { paint, type Theme } from './styledText.ts';
import { nextTime, type Replay, snapshotAt, timeMarks } from './timeline.ts';
import { Trends } from './trends.ts';
import { type Effect, initialState, type Message, sourcesOf, type ViewState } from './viewState.ts';

/** Sources answer within milliseconds. The answer of a slower source is in the next frame. */
const SETTLE_MS = 200;
const BELL = '\u0007';
/** Recordings have these too. The event log is in the database. */
const RECORDED: readonly PaneSource[] = ['database', 'machine'];

/** Ink reads the keys, and switches to the alternate screen and back. */
function Keys({ onKeys }: { onKeys: (keys: string[]) => void }) {
  useInput((input, key) => onKeys(keysOf(input, key)));
  return null;
}

export interface LiveOptions {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly intervalSeconds: number;
  readonly theme: Theme | false;
  readonly mouse: boolean;
  /** The terminal rings when a problem appears. */
  readonly bell?: boolean;
  /** The pane that is shown first. */
  readonly pane?: ViewId | undefined;
  readonly admin?: Admin | undefined;
  readonly snapshot: () => TopSnapshot;
  /** Reads the sources that are due, and of those of single panes the named ones. */
  readonly refresh: (intervalMs: number, shown: readonly PaneSource[]) => void;
  readonly act: (action: TopAction) => Promise<string>;
  /** Writes an exported pane. Returns a sentence with its place. */
  readonly save: (exported: Exported) => Promise<string>;
  readonly recorder?: Recorder | undefined;
  readonly replay?: Replay | undefined;
  readonly signal: AbortSignal;
}

export interface Ended {
  /** The action that was running. */
  readonly busy: string | null;
  readonly pane: ViewId;
}

/**
 * Draws until the viewer quits or the signal aborts, then restores the terminal. `changed` draws the new
 * snapshot.
 */
export function liveTop(options: LiveOptions): { changed(): void; ended: Promise<Ended> } {
  const view = new LiveTop(options);
  return { changed: () => view.changed(), ended: view.run() };
}

class LiveTop {
  readonly #options: LiveOptions;
  readonly #memory: OrderMemory = new Map();
  readonly #writer: RowWriter;
  readonly #history: History;
  readonly #trends: Trends;
  readonly #alarm = new Alarm();
  #state: ViewState;
  #snapshot: TopSnapshot;
  #ended = false;
  #failure: FeedctlError | undefined;
  #recordedAt = 0;
  #refreshTimer: NodeJS.Timeout | undefined;
  #drawTimer: NodeJS.Timeout | undefined;
  #unmount = () => {};

  constructor(options: LiveOptions) {
    this.#options = options;
    this.#writer = new RowWriter(options.stdout);
    const { replay, intervalSeconds, pane } = options;
    this.#history = replay?.history ?? new History();
    this.#trends = replay?.trends ?? new Trends();
    const at = replay ? (replay.history.times[0] ?? null) : null;
    this.#state = { ...initialState(intervalSeconds, pane), at };
    this.#snapshot = options.snapshot();
  }

  async run(): Promise<Ended> {
    const { stdin, stdout, signal, mouse } = this.#options;
    const app = render(<Keys onKeys={(keys) => this.#onKeys(keys)} />, {
      stdin,
      stdout,
      // Ctrl-C is handled as a key: Ink would end the process in the middle of an action.
      exitOnCtrlC: false,
      patchConsole: false,
      alternateScreen: true,
      // Draw at a terminal under CI too.
      interactive: true,
    });
    this.#unmount = app.unmount;
    const deafen = mouse ? listenToMouse(stdin, (report) => this.#onMouse(report)) : undefined;
    if (mouse) stdout.write(MOUSE_ON);
    // An uncaught error ends the view before node prints it: the alternate screen would hide it.
    process.once('uncaughtExceptionMonitor', this.#end);
    signal.addEventListener('abort', this.#end);
    stdout.on('resize', this.#onResize);
    if (!this.#options.replay) this.#take();
    this.#draw();
    this.#refreshTimer = setTimeout(this.#refresh, 0);
    try {
      await app.waitUntilExit();
      if (this.#failure) throw this.#failure;
      return { busy: this.#state.busy, pane: this.#state.pane };
    } finally {
      this.#end();
      deafen?.();
      process.off('uncaughtExceptionMonitor', this.#end);
      signal.removeEventListener('abort', this.#end);
      stdout.off('resize', this.#onResize);
    }
  }

  changed(): void {
    if (!this.#state.paused && !this.#ended) this.#drawSoon();
  }

  get #shown(): TopSnapshot {
    return snapshotAt(this.#history, this.#state.at, this.#snapshot);
  }

  #screen(shown: TopSnapshot): Screen {
    const { stdout, admin, replay, recorder } = this.#options;
    const marks = timeMarks(this.#state, shown, { replay, nowMs: Date.now(), recorded: recorder?.count });
    const size = { width: stdout.columns || 80, height: stdout.rows || 24 };
    return { ...size, admin, memory: this.#memory, trends: this.#trends, marks };
  }

  #draw(): void {
    if (this.#ended) return;
    try {
      const shown = this.#shown;
      const lines = frame(shown, this.#state, this.#screen(shown));
      this.#writer.write(lines.map((line) => paint(line, this.#options.theme)));
    } catch (error) {
      if (!this.#options.replay) throw error;
      this.#failure = new FeedctlError(
        'RECORDING_DAMAGED',
        'the recording has a snapshot without its fields',
        {
          cause: error,
        },
      );
      this.#end();
    }
  }

  /** Takes the new snapshot, for charts, history, recording and the bell. */
  #take(): void {
    const snapshot = this.#options.snapshot();
    this.#snapshot = snapshot;
    this.#trends.record(snapshot);
    this.#history.keep(snapshot);
    if (this.#alarm.rings(snapshot.health) && this.#options.bell) this.#options.stdout.write(BELL);
    this.#record(snapshot);
  }

  #record(snapshot: TopSnapshot): void {
    const { recorder } = this.#options;
    const now = performance.now();
    if (!recorder || now < this.#recordedAt + this.#state.intervalSeconds * 900) return;
    this.#recordedAt = now;
    recorder.write(snapshot);
    if (recorder.error) this.#say(recorder.error.message, 'bad');
  }

  #say(text: string, tone: Message['tone']): void {
    this.#state = { ...this.#state, message: { text, tone } };
  }

  /** Draws the new snapshot once for all sources that answer meanwhile. */
  #drawSoon(): void {
    this.#drawTimer ??= setTimeout(() => {
      this.#drawTimer = undefined;
      if (this.#state.paused) return;
      this.#take();
      this.#draw();
    }, SETTLE_MS);
  }

  readonly #onResize = (): void => {
    this.#writer.forget();
    this.#draw();
  };

  readonly #refresh = (): void => {
    clearTimeout(this.#refreshTimer);
    if (this.#ended) return;
    const intervalMs = this.#state.intervalSeconds * 1_000;
    if (!this.#state.paused && !this.#options.replay) {
      const recorded = this.#options.recorder ? RECORDED : [];
      this.#options.refresh(intervalMs, [...recorded, ...sourcesOf(this.#state)]);
      this.#drawSoon();
    }
    this.#refreshTimer = setTimeout(this.#options.replay ? this.#play : this.#refresh, intervalMs);
  };

  /** Shows the next snapshot of a recording. */
  readonly #play = (): void => {
    const { replay } = this.#options;
    if (replay && !this.#state.paused && this.#state.at !== null) {
      const { at, ended } = nextTime(replay.history, this.#state.at);
      this.#state = { ...this.#state, at, paused: ended };
      if (ended) this.#say(`the end of the recording${replay.cut ? ', which was cut here' : ''}`, 'plain');
      this.#draw();
    }
    this.#refresh();
  };

  #onMouse(report: MouseReport): void {
    const shown = this.#shown;
    const key = keyOfMouse(report, shown, this.#state, this.#screen(shown));
    if (key !== undefined) this.#onKeys([key]);
  }

  #onKeys(keys: readonly string[]): void {
    for (const key of keys) {
      const shown = this.#shown;
      const screen = this.#screen(shown);
      const before = this.#state;
      const { state, effect } = reduce(before, key, {
        snapshot: shown,
        page: layOut(shown, before, screen).page,
        admin: screen.admin,
        memory: this.#memory,
        times: this.#history.times,
        replay: this.#options.replay !== undefined,
      });
      this.#state = state;
      this.#perform(effect);
      if (this.#ended) return;
      if (before.intervalSeconds !== state.intervalSeconds) this.#refresh();
    }
    this.#draw();
  }

  #perform(effect: Effect | undefined): void {
    if (effect?.kind === 'quit') this.#end();
    else if (effect?.kind === 'act') void this.#act(effect.action);
    else if (effect?.kind === 'refresh') this.#refresh();
    else if (effect?.kind === 'export') {
      const exported = exportPane(this.#shown, this.#state, effect.format);
      if (exported) void this.#answer(this.#options.save(exported));
    }
  }

  async #act(action: TopAction): Promise<void> {
    await this.#answer(this.#options.act(action));
    this.#state = { ...this.#state, busy: null };
    this.#refresh();
    this.#draw();
  }

  /** Shows the sentence of an action, or why it failed. */
  async #answer(work: Promise<string>): Promise<void> {
    await work.then(
      (text) => this.#say(text, 'ok'),
      (error: unknown) => this.#say(`failed: ${messageOf(error)}`, 'bad'),
    );
    this.#draw();
  }

  readonly #end = (): void => {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#refreshTimer);
    clearTimeout(this.#drawTimer);
    if (this.#options.mouse) this.#options.stdout.write(MOUSE_OFF);
    // A terminal that has grown may keep rows of this screen when it switches back.
    this.#options.stdout.write('\u001b[H\u001b[J');
    this.#unmount();
  };
}
