import { type Key, render, useInput } from 'ink';
import { messageOf } from '../../engine/model/errors.ts';
import type { TopAction } from '../../engine/monitoring/top/actions.ts';
import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { Admin } from './actions.ts';
import { frame, pageRows } from './frame.ts';
import type { OrderMemory } from './sorting.ts';
import { initialState, reduce, type ViewState } from './state.ts';
import { paint } from './styledText.ts';

/** Sources answer within milliseconds; one that takes longer is in the next frame. */
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
  // What most terminals send for backspace.
  delete: 'backspace',
} as const satisfies Partial<Record<keyof Key, string>>;

/** The keys of one input: a paste, or keys typed while the program was busy, are several. */
export function keysOf(input: string, key: Key): string[] {
  // Escape and another key, typed faster than a terminal can tell them from one.
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

/** Ink has the keys, the alternate screen and the cursor, and gives them back. */
function Keys({ onKeys }: { onKeys: (keys: string[]) => void }) {
  useInput((input, key) => onKeys(keysOf(input, key)));
  return null;
}

/**
 * Writes the rows that have changed, in one piece. Ink would lay out and take apart every character of every frame: at 200x60 that
 * was most of what a frame cost.
 */
function rowWriter(stdout: NodeJS.WriteStream) {
  let shown: readonly string[] | undefined;
  return {
    write(lines: readonly string[]): void {
      const changed = lines.flatMap((line, row) =>
        shown?.[row] === line ? [] : [`\u001b[${row + 1};1H${line}\u001b[K`],
      );
      const text = changed.join('');
      // A frame has all rows there are: nothing is left to clear, which some terminals would do by scrolling.
      if (text) stdout.write(text);
      shown = lines;
    },
    /** Nobody knows what a terminal of another size shows. */
    forget(): void {
      shown = undefined;
    },
  };
}

export interface LiveOptions {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly intervalSeconds: number;
  readonly colours: boolean;
  readonly admin: Admin | undefined;
  readonly snapshot: () => TopSnapshot;
  /** Asks for what is due. */
  readonly refresh: (intervalMs: number) => void;
  readonly act: (action: TopAction) => Promise<string>;
  readonly signal: AbortSignal;
}

/**
 * Draws until somebody quits or the signal aborts; then the terminal is as it was, and what was being done is returned. `changed`:
 * there is something new to show.
 */
export function liveTop(options: LiveOptions): { changed(): void; ended: Promise<string | null> } {
  const { stdin, stdout, colours, admin } = options;
  const memory: OrderMemory = new Map();
  let state: ViewState = initialState(options.intervalSeconds);
  let snapshot = options.snapshot();
  let ended = false;
  let timer: NodeJS.Timeout | undefined;
  let settling: NodeJS.Timeout | undefined;

  const screen = () => ({ width: stdout.columns || 80, height: stdout.rows || 24, admin, memory });
  const writer = rowWriter(stdout);
  const draw = () => {
    if (!ended) writer.write(frame(snapshot, state, screen()).map((line) => paint(line, colours)));
  };
  const resized = () => {
    writer.forget();
    draw();
  };
  /** Once for everything that is answered meanwhile: a frame costs more than a look. */
  const drawSoon = () => {
    settling ??= setTimeout(() => {
      settling = undefined;
      if (state.paused) return;
      snapshot = options.snapshot();
      draw();
    }, SETTLE_MS);
  };
  const look = () => {
    clearTimeout(timer);
    if (ended) return;
    if (!state.paused) {
      options.refresh(state.intervalSeconds * 1_000);
      drawSoon();
    }
    timer = setTimeout(look, state.intervalSeconds * 1_000);
  };
  const act = (action: TopAction) => {
    options
      .act(action)
      .then(
        (text): ViewState['message'] => ({ text, tone: 'ok' }),
        (error: unknown): ViewState['message'] => ({ text: `failed: ${messageOf(error)}`, tone: 'bad' }),
      )
      .then((message) => {
        state = { ...state, message, busy: null };
        look();
        draw();
      });
  };
  const onKeys = (keys: string[]) => {
    for (const key of keys) {
      const page = pageRows(snapshot, state, screen());
      const before = state;
      const reduced = reduce(state, key, { snapshot, page, admin, memory });
      state = reduced.state;
      if (reduced.effect?.kind === 'quit') {
        end();
        return;
      }
      if (reduced.effect?.kind === 'act') act(reduced.effect.action);
      if (reduced.effect?.kind === 'refresh' || before.intervalSeconds !== state.intervalSeconds) look();
    }
    draw();
  };
  const app = render(<Keys onKeys={onKeys} />, {
    stdin,
    stdout,
    // Ctrl-C is a key as any other; Ink would end the process in the middle of an action.
    exitOnCtrlC: false,
    patchConsole: false,
    alternateScreen: true,
    // Whoever started it at a terminal wants it there, under CI too.
    interactive: true,
  });
  const end = () => {
    if (ended) return;
    ended = true;
    clearTimeout(timer);
    clearTimeout(settling);
    // A terminal that has grown may keep rows of this screen for the other one.
    stdout.write('\u001b[H\u001b[J');
    app.unmount();
  };
  // Before node writes of an error that nobody caught: on the other screen nobody would see it.
  const onCrash = () => end();
  process.once('uncaughtExceptionMonitor', onCrash);
  options.signal.addEventListener('abort', end);
  stdout.on('resize', resized);
  draw();
  timer = setTimeout(look, 0);
  return {
    changed() {
      if (!state.paused && !ended) drawSoon();
    },
    ended: app
      .waitUntilExit()
      .then(() => state.busy)
      .finally(() => {
        end();
        process.off('uncaughtExceptionMonitor', onCrash);
        options.signal.removeEventListener('abort', end);
        stdout.off('resize', resized);
      }),
  };
}
