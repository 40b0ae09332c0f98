// Draws a screen of a terminal, as text with escape sequences for colours, as an SVG of monospaced text.

const CELL = { width: 8.4, height: 18 };
const FONT_SIZE = 14;
const PADDING = 16;
const TITLE_HEIGHT = 34;
const FONT =
  "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace";
const BACKGROUND = '#0d1117';
const FOREGROUND = '#d1d7e0';
const COLOURS = ['#484f58', '#ff7b72', '#56d364', '#e3b341', '#79c0ff', '#d2a8ff', '#56d4dd', FOREGROUND];
const BUTTONS = ['#ff5f57', '#febc2e', '#28c840'];

interface Style {
  readonly bold: boolean;
  readonly dim: boolean;
  readonly inverse: boolean;
  readonly colour: string;
}

interface Run {
  readonly column: number;
  readonly text: string;
  readonly style: Style;
}

const PLAIN: Style = { bold: false, dim: false, inverse: false, colour: FOREGROUND };

/** Returns the style after one code of a "select graphic rendition" sequence. */
function applyCode(style: Style, code: number): Style {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...style, bold: true };
  if (code === 2) return { ...style, dim: true };
  if (code === 22) return { ...style, bold: false, dim: false };
  if (code === 7 || code === 27) return { ...style, inverse: code === 7 };
  if (code === 39) return { ...style, colour: FOREGROUND };
  const colour = COLOURS[code >= 90 ? code - 90 : code - 30];
  return colour ? { ...style, colour } : style;
}

/** Splits each row into runs of one style. A style lasts until it is changed, over the end of a row too. */
function parseScreen(screen: string): Run[][] {
  let style = PLAIN;
  return screen
    .replace(/\s+$/, '')
    .split('\n')
    .map((row) => {
      const runs: Run[] = [];
      let column = 0;
      // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
      for (const [part, codes] of row.matchAll(/\u001b\[([\d;]*)m|[^\u001b]+/g)) {
        if (codes !== undefined) {
          for (const code of codes.split(';')) style = applyCode(style, Number(code));
          continue;
        }
        runs.push({ column, text: part, style });
        column += [...part].length;
      }
      return runs;
    });
}

const escapeXml = (text: string): string =>
  text.replace(/[&<>]/g, (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[char]!);
const round = (value: number): number => Math.round(value * 100) / 100;

const BARS = '▁▂▃▄▅▆▇█';
const rectangle = (x: number, y: number, width: number, height: number, colour: string): string =>
  `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" ` +
  `fill="${colour}"/>`;

/** Directions in which the lines of a box character leave the centre of its cell. */
const BOXES: Readonly<Record<string, string>> = {
  ...{ '─': 'lr', '│': 'ud', '┌': 'rd', '┐': 'ld', '└': 'ru', '┘': 'lu' },
  ...{ '├': 'rud', '┤': 'lud', '┬': 'lrd', '┴': 'lru', '┼': 'lrud' },
};
/** Characters that are drawn as shapes: the glyphs of many fonts leave gaps between them. */
const SHAPES = new RegExp(`[${BARS}░${Object.keys(BOXES).join('')}]`, 'g');

function drawShapes(text: string, x: number, y: number, colour: string): string[] {
  return [...text].flatMap((char, i) => {
    const left = x + i * CELL.width;
    if (char === '░') return [rectangle(left, y + 3, CELL.width, CELL.height - 6, `${colour}40`)];
    if (char in BOXES) return [drawBox(BOXES[char]!, left, y)];
    const eighths = BARS.indexOf(char) + 1;
    if (eighths === 0) return [];
    const height = (eighths / 8) * (CELL.height - 4);
    return [rectangle(left, y + CELL.height - 2 - height, CELL.width - 0.6, height, colour)];
  });
}

function drawBox(directions: string, left: number, top: number): string {
  const [x, y] = [round(left + CELL.width / 2), round(top + CELL.height / 2)];
  const ends = {
    l: `H${round(left)}`,
    r: `H${round(left + CELL.width)}`,
    u: `V${top}`,
    d: `V${top + CELL.height}`,
  };
  const path = [...directions]
    .map((direction) => `M${x} ${y}${ends[direction as keyof typeof ends]}`)
    .join('');
  return `<path d="${path}" stroke="#6e7681"/>`;
}

function drawRun({ column, text, style }: Run, row: number): string[] {
  const x = PADDING + column * CELL.width;
  const y = TITLE_HEIGHT + row * CELL.height;
  const colour = style.inverse ? BACKGROUND : style.colour;
  const parts: string[] = [];
  if (style.inverse) parts.push(rectangle(x, y, [...text].length * CELL.width, CELL.height, style.colour));
  parts.push(...drawShapes(text, x, y, colour));
  const weight = style.bold ? ' font-weight="bold"' : '';
  const opacity = style.dim ? ' opacity="0.65"' : '';
  // Each piece without runs of blanks is placed by itself, so that it stays on its cells in any font.
  for (const match of text.replace(SHAPES, ' ').matchAll(/\S+(?: \S+)*/g)) {
    const [piece] = match;
    const cells = [...piece].length;
    const at = x + [...text.slice(0, match.index)].length * CELL.width;
    parts.push(
      `<text x="${round(at)}" y="${round(y + 13.5)}" textLength="${round(cells * CELL.width)}" ` +
        `fill="${colour}"${weight}${opacity}>${escapeXml(piece)}</text>`,
    );
  }
  return parts;
}

/** Returns an SVG of a window with this title that shows the screen. `columns`: width of the terminal. */
export function terminalSvg(screen: string, options: { title: string; columns: number }): string {
  const rows = parseScreen(screen);
  const width = round(options.columns * CELL.width + 2 * PADDING);
  const height = TITLE_HEIGHT + rows.length * CELL.height + PADDING;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
      `viewBox="0 0 ${width} ${height}">`,
    `<title>${escapeXml(options.title)}</title>`,
    `<rect width="${width}" height="${height}" rx="10" fill="${BACKGROUND}"/>`,
    ...BUTTONS.map((colour, i) => `<circle cx="${20 + i * 18}" cy="16" r="5.5" fill="${colour}"/>`),
    `<g font-family="${FONT}" font-size="${FONT_SIZE}" xml:space="preserve">`,
    `<text x="${round(width / 2)}" y="21" text-anchor="middle" fill="#8b949e">` +
      `${escapeXml(options.title)}</text>`,
    ...rows.flatMap((runs, row) => runs.flatMap((run) => drawRun(run, row))),
    '</g>',
    '</svg>',
    '',
  ].join('\n');
}
