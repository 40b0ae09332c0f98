const WIDTH = 120;

/**
 * Breaks a paragraph into lines of at most 120 columns. Lines after the first begin with `indent`. A code
 * span or a link stays on one line. A line never begins with the sign of a list, a heading or a quotation.
 */
export function wrap(text: string, indent = ''): string[] {
  const words: string[] = [];
  for (const word of text.match(/(?:`[^`]*`|\[[^\]]*\]\([^)]*\)|[^\s`])+/g) ?? []) {
    if (/^(?:[-+*>]|#+|1[.)])$/.test(word) && words.length > 0) words.push(`${words.pop()} ${word}`);
    else words.push(word);
  }
  const lines: string[] = [];
  let line = '';
  for (const word of words) {
    if (line && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = indent + word;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line];
}
