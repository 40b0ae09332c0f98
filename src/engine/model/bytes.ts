/** 980 B, 1.5 KiB, 24 GiB */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 1023.5 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${value < 9.95 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const UNITS = { MB: 1e6, GB: 1e9, TB: 1e12, MIB: 2 ** 20, GIB: 2 ** 30, TIB: 2 ** 40 } as const;

/** Returns the bytes of a size such as 500GiB or 1.5 TB, or undefined for other text. */
export function parseBytes(text: string): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?) ?([MGT]i?B)$/i.exec(text) ?? [];
  return unit === undefined ? undefined : Number(number) * UNITS[unit.toUpperCase() as keyof typeof UNITS];
}
