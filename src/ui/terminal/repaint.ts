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
    stream.write(`${up}\u001b[J${lines.map((line) => line.slice(0, width)).join('\n')}\n`);
    drawn = lines.length;
  };
}
