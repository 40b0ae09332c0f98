import { stripVTControlCharacters } from 'node:util';
import { cellsOf, cut } from './cells.ts';

/** Returns a function that prints a text over the one before on a terminal, or below it elsewhere. */
export function openRepaint(stream: NodeJS.WriteStream): (text: string) => void {
  let drawn = 0;
  return (text) => {
    if (!stream.isTTY) {
      stream.write(`${text}\n`);
      return;
    }
    // Cuts lines that would wrap and texts that would scroll: the next text could not start at the same row.
    const lines = text.split('\n').slice(0, Math.max(1, (stream.rows || 24) - 1));
    const width = (stream.columns || 80) - 1;
    const up = drawn > 0 ? `\u001b[${drawn}A` : '';
    stream.write(`${up}\u001b[J${lines.map((line) => cutLine(line, width)).join('\n')}\n`);
    drawn = lines.length;
  };
}

/** A line that is too wide loses its colours: their end could be cut off. */
function cutLine(line: string, width: number): string {
  const plain = stripVTControlCharacters(line);
  return cellsOf(plain) <= width ? line : cut(plain, width);
}
