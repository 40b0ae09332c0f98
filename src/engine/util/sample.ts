/**
 * Returns up to `count` items: the first ones of the list for one half, random ones of the rest for the
 * other half.
 */
export function sampleOf<T>(items: readonly T[], count: number): T[] {
  const first = items.slice(0, Math.ceil(count / 2));
  const rest = items.slice(first.length);
  const drawn: T[] = [];
  while (rest.length > 0 && first.length + drawn.length < count) {
    const at = Math.floor(Math.random() * rest.length);
    drawn.push(rest[at]!);
    rest[at] = rest.at(-1)!;
    rest.pop();
  }
  return [...first, ...drawn];
}
