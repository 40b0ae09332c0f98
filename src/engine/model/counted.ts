/** Returns a number with its noun: `1 post`, `1,200 posts`. `many`: a plural that is not formed by an s. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString('en-US')} ${count === 1 ? one : many}`;
