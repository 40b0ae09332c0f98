// Charts as SVG: a line over the last minutes, with its value now and its maximum.
import { make, setText } from './dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 300;
const HEIGHT = 72;
const TOP = 4;

const vector = (tag, attributes) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

/** Returns a duration of seconds as a text: `45 s`, `5 min`. */
const spanText = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);

/** A chart of one or several lines. The colour of a line is that of its place. */
export class Chart {
  #title;
  #format;
  #figure;
  #svg;
  #value;
  #span;
  #most;
  #drawn;

  /** `format`: makes the text of a value. */
  constructor(title, format) {
    this.#title = title;
    this.#format = format;
    this.#value = make('strong');
    this.#span = make('span');
    this.#most = make('span');
    this.#svg = vector('svg', {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: 'none',
      role: 'img',
    });
    this.#svg.addEventListener('pointermove', (event) => this.#point(event));
    this.#svg.addEventListener('pointerleave', () => this.#label());
    this.#figure = make(
      'figure',
      { className: 'card chart' },
      make('figcaption', {}, make('span', {}, title), this.#value),
      this.#svg,
      make('p', { className: 'axis hint' }, this.#span, this.#most, make('span', {}, 'now')),
    );
  }

  get element() {
    return this.#figure;
  }

  /**
   * Draws lines of values, the oldest first; null is a gap. `now`: the text of the present value.
   * `stepSeconds`: time between two values.
   */
  draw({ lines, now, stepSeconds }) {
    this.#drawn = { lines, now, stepSeconds };
    const values = lines.flat().filter((value) => value !== null);
    const most = Math.max(0, ...values);
    const count = Math.max(...lines.map((line) => line.length));
    const paths = lines.flatMap((line, i) => {
      const d = pathOf(line, most || 1, count);
      const stroke = vector('path', { d, class: `stroke line-${i}` });
      if (i > 0 || d === '' || line.includes(null)) return [stroke];
      return [
        vector('path', { d: `${d}L${WIDTH},${HEIGHT}L${x(0, line, count)},${HEIGHT}Z`, class: 'fill' }),
        stroke,
      ];
    });
    this.#svg.replaceChildren(...paths);
    setText(this.#span, count > 1 ? `${spanText((count - 1) * stepSeconds)} ago` : '');
    setText(this.#most, values.length > 0 ? `at most ${this.#format(most)}` : 'nothing yet');
    this.#svg.setAttribute('aria-label', `${this.#title}: now ${now}, at most ${this.#format(most)}`);
    if (!this.#svg.matches(':hover')) this.#label();
  }

  #label() {
    if (this.#drawn) setText(this.#value, this.#drawn.now);
  }

  /** Shows the values under the pointer. */
  #point({ clientX }) {
    if (!this.#drawn) return;
    const { lines, stepSeconds } = this.#drawn;
    const { left, width } = this.#svg.getBoundingClientRect();
    const count = Math.max(...lines.map((line) => line.length));
    const back = Math.round((1 - (clientX - left) / width) * (count - 1));
    const texts = lines
      .map((line) => line.at(-1 - back))
      .map((value) => (value == null ? '–' : this.#format(value)));
    setText(
      this.#value,
      `${texts.join(' / ')}, ${back === 0 ? 'now' : `${spanText(back * stepSeconds)} ago`}`,
    );
  }
}

/** Returns the horizontal place of a value: the newest is at the right edge. */
const x = (i, line, count) => (count > 1 ? WIDTH - ((line.length - 1 - i) * WIDTH) / (count - 1) : WIDTH);

function pathOf(line, most, count) {
  let d = '';
  for (const [i, value] of line.entries()) {
    if (value === null) continue;
    const command = i === 0 || line[i - 1] === null ? 'M' : 'L';
    const y = HEIGHT - (value / most) * (HEIGHT - TOP);
    d += `${command}${x(i, line, count).toFixed(1)},${y.toFixed(1)}`;
  }
  return d;
}
