import { type Key, render, useInput } from 'ink';
import { messageOf } from '../../engine/model/errors.ts';
import type { TopAction } from '../../engine/monitoring/top/actions.ts';
import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { Admin } from './actions.ts';
import { frame, pageRows } from './frame.ts';
import type { Screen } from './screen.ts';
import type { OrderMemory } from './sorting.ts';
import { initialState, reduce, type ViewState } from './state.ts';
import { paint } from './styledText.ts';

/** Sources answer within milliseconds. The answer of a slower source is in the next frame. */
const SETTLE_MS = 200;

const NAMED = {
  upArrow: 'up',
  downArrow: 'down',
  leftArrow: 'left',
  rightArrow: 'right',
  pageDown: 'pagedown',
  pageUp: 'pageup',
  home: 'home',
  end: 'end',
  return: 'return',
  escape: 'escape',
  backspace: 'backspace',
  // Most terminals send it for backspace.
  delete: 'backspace',
} as const satisfies Partial<Record<keyof Key, string>>;

/** The keys of one input. A paste has several keys, and so has fast typing. */
export function keysOf(input: string, key: Key): string[] {
  // Terminals send Alt with a key as escape and the key, so both typed fast look like Alt.
  if (key.meta && !key.escape) return ['escape', ...keysOf(input, { ...key, meta: false })];
  if (key.tab) return [key.shift ? 'shift-tab' : 'tab'];
  for (const [flag, name] of Object.entries(NAMED)) if (key[flag as keyof typeof NAMED]) return [name];
  if (key.ctrl) return [`ctrl-${input}`];
  return [...input].flatMap((char) => {
    if (char === ' ') return ['space'];
    if (char === '\r' || char === '\n') return ['return'];
    if (char === '\t') return ['tab'];
    if (char === '\u007f' || char === '\b') return ['backspace'];
    return char < ' ' ? [] : [char];
  });
}

/** Ink reads the keys, and switches to the alternate screen and back. */
function Keys({ onKeys }: { onKeys: (keys: string[]) => void }) {
  useInput((input, key) => onKeys(keysOf(input, key)));
  return null;
}

/**
 * Writes the rows that changed, in one piece, without Ink's layout. Ink lays out every character of
 * every frame: a frame of 200x60 took 9.1 ms of CPU time, 8.2 ms with `incrementalRendering`, and
 * 0.1 ms here. At one frame a second `top` used 4.6% of a core with Ink's layout, and 0.7% without.
 */
class RowWriter {
  readonly #stdout: NodeJS.WriteStream;
  #shown: readonly string[] | undefined;

  constructor(stdout: NodeJS.WriteStream) {
    this.#stdout = stdout;
  }

  /** Writes a frame, which has every row of the screen, so that no row needs to be cleared. */
  write(lines: readonly string[]): void {
    const text = lines
      .flatMap((line, row) => (this.#shown?.[row] === line ? [] : [`\u001b[${row + 1};1H${line}\u001b[K`]))
      .join('');
    if (text) this.#stdout.write(text);
    this.#shown = lines;
  }

  /** The next frame is written whole: a terminal that was resized may show anything. */
  forget(): void {
    this.#shown = undefined;
  }
}

export interface LiveOptions {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly intervalSeconds: number;
  readonly colours: boolean;
  readonly admin: Admin | undefined;
  readonly snapshot: () => TopSnapshot;
  /** Reads the sources that are due. */
  readonly refresh: (intervalMs: number) => void;
  readonly act: (action: TopAction) => Promise<string>;
  readonly signal: AbortSignal;
}

/**
 * Draws until the viewer quits or the signal aborts, then restores the terminal. `ended` resolves
 * with the action that was running, if any. `changed` draws the new snapshot.
 */
export function liveTop(options: LiveOptions): { changed(): void; ended: Promise<string | null> } {
  const view = new LiveTop(options);
  return { changed: () => view.changed(), ended: view.run() };
}

class LiveTop {
  readonly #options: LiveOptions;
  readonly #memory: OrderMemory = new Map();
  readonly #writer: RowWriter;
  #state: ViewState;
  #snapshot: TopSnapshot;
  #ended = false;
  #refreshTimer: NodeJS.Timeout | undefined;
  #drawTimer: NodeJS.Timeout | undefined;
  #unmount = () => {};

  constructor(options: LiveOptions) {
    this.#options = options;
    this.#writer = new RowWriter(options.stdout);
    this.#state = initialState(options.intervalSeconds);
    this.#snapshot = options.snapshot();
  }

  async run(): Promise<string | null> {
    const { stdin, stdout, signal } = this.#options;
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
    // An uncaught error ends the view before node prints it: the alternate screen would hide it.
    process.once('uncaughtExceptionMonitor', this.#end);
    signal.addEventListener('abort', this.#end);
    stdout.on('resize', this.#onResize);
    this.#draw();
    this.#refreshTimer = setTimeout(this.#refresh, 0);
    try {
      await app.waitUntilExit();
      return this.#state.busy;
    } finally {
      this.#end();
      process.off('uncaughtExceptionMonitor', this.#end);
      signal.removeEventListener('abort', this.#end);
      stdout.off('resize', this.#onResize);
    }
  }

  changed(): void {
    if (!this.#state.paused && !this.#ended) this.#drawSoon();
  }

  get #screen(): Screen {
    const { stdout, admin } = this.#options;
    return { width: stdout.columns || 80, height: stdout.rows || 24, admin, memory: this.#memory };
  }

  #draw(): void {
    if (this.#ended) return;
    const lines = frame(this.#snapshot, this.#state, this.#screen);
    this.#writer.write(lines.map((line) => paint(line, this.#options.colours)));
  }

  /** Draws the new snapshot once for all sources that answer meanwhile. */
  #drawSoon(): void {
    this.#drawTimer ??= setTimeout(() => {
      this.#drawTimer = undefined;
      if (this.#state.paused) return;
      this.#snapshot = this.#options.snapshot();
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
    if (!this.#state.paused) {
      this.#options.refresh(intervalMs);
      this.#drawSoon();
    }
    this.#refreshTimer = setTimeout(this.#refresh, intervalMs);
  };

  #onKeys(keys: readonly string[]): void {
    for (const key of keys) {
      const { admin, memory } = this.#screen;
      const page = pageRows(this.#snapshot, this.#state, this.#screen);
      const before = this.#state;
      const { state, effect } = reduce(before, key, { snapshot: this.#snapshot, page, admin, memory });
      this.#state = state;
      if (effect?.kind === 'quit') {
        this.#end();
        return;
      }
      if (effect?.kind === 'act') void this.#act(effect.action);
      if (effect?.kind === 'refresh' || before.intervalSeconds !== state.intervalSeconds) this.#refresh();
    }
    this.#draw();
  }

  async #act(action: TopAction): Promise<void> {
    const message = await this.#options.act(action).then(
      (text): ViewState['message'] => ({ text, tone: 'ok' }),
      (error: unknown): ViewState['message'] => ({ text: `failed: ${messageOf(error)}`, tone: 'bad' }),
    );
    this.#state = { ...this.#state, message, busy: null };
    this.#refresh();
    this.#draw();
  }

  readonly #end = (): void => {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#refreshTimer);
    clearTimeout(this.#drawTimer);
    // A terminal that has grown may keep rows of this screen when it switches back.
    this.#options.stdout.write('\u001b[H\u001b[J');
    this.#unmount();
  };
}
