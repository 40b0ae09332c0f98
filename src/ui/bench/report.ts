import type { Machine } from '../../engine/bench/machine.ts';
import type { Bar, Plot } from './plot.ts';

/** A benchmark as one page without scripts or other files. */
export interface Report {
  /** Command line, without secrets. */
  readonly command: string;
  readonly version: string;
  readonly at: Date;
  readonly plots: readonly Plot[];
  readonly machine: Machine;
  /** Everything that --json prints. */
  readonly result: unknown;
}

const STYLE = `
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
  table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; }
  .plot td { white-space: nowrap; } .plot td:nth-child(2) { width: 60%; }
  .bar { background: #2a7ab8; height: 1.1rem; min-width: 1px; }
  pre { background: #f4f4f4; overflow: auto; padding: 1rem; }
  @media (prefers-color-scheme: dark) {
    body { background: #16181c; color: #ddd; } pre { background: #222; }
  }`;

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
/** Returns text as it stands in HTML, also in an attribute. */
export const escaped = (text: string): string => text.replace(/[&<>"]/g, (character) => ENTITIES[character]!);

/** Renders a report as HTML. */
export function renderReport({ command, version, at, plots, machine, result }: Report): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(command)}</title>
<style>${STYLE}
</style>
<h1>${escaped(command)}</h1>
<p>feedctl ${escaped(version)}, ${at.toISOString()}.
Ratios compare runs of one machine; rates do not carry over.</p>
${plots.map(plotTable).join('\n')}
<h2>Machine</h2>
<table>${Object.entries(machine)
    .map(([name, value]) => `<tr><th>${escaped(name)}</th><td>${escaped(String(value))}</td></tr>`)
    .join('')}</table>
<h2>Result</h2>
<pre>${escaped(JSON.stringify(result, null, 2))}</pre>
</html>
`;
}

function plotTable({ title, bars }: Plot): string {
  const most = Math.max(...bars.map((bar) => bar.value), Number.MIN_VALUE);
  return `<h2>${escaped(title)}</h2>
<table class="plot">${bars.map((bar) => barRow(bar, most)).join('')}</table>`;
}

const barRow = ({ label, value, text }: Bar, most: number): string =>
  `<tr><td>${escaped(label)}</td><td><div class="bar" style="width: ${((100 * value) / most).toFixed(1)}%">` +
  `</div></td><td>${escaped(text)}</td></tr>`;
