/**
 * Returns PostgreSQL's `hashint8`, which equals Citus's `worker_hash`: Bob Jenkins' lookup3 over
 * the two halves of the number xored (src/common/hashfn.c, `hash_bytes_uint32`;
 * src/backend/access/hash/hashfunc.c, `hashint8`). Takes the high and the low 32 bits of a number
 * that is not negative. Returns an unsigned 32-bit hash.
 */
export function hashInt8(high: number, low: number): number {
  const seed = (0x9e3779b9 + 4 + 3923095) | 0;
  let a = (seed + (low ^ high)) | 0;
  let b = seed;
  let c = seed;
  c = ((c ^ b) - ((b << 14) | (b >>> 18))) | 0;
  a = ((a ^ c) - ((c << 11) | (c >>> 21))) | 0;
  b = ((b ^ a) - ((a << 25) | (a >>> 7))) | 0;
  c = ((c ^ b) - ((b << 16) | (b >>> 16))) | 0;
  a = ((a ^ c) - ((c << 4) | (c >>> 28))) | 0;
  b = ((b ^ a) - ((a << 14) | (a >>> 18))) | 0;
  c = ((c ^ b) - ((b << 24) | (b >>> 8))) | 0;
  return c >>> 0;
}

/**
 * Returns the partition 0..partitions-1 of a user. Partitions are equal slices of the signed hash
 * space, as shards of Citus are. So a partition consists of whole shards if `partitions` divides
 * their number.
 */
export function partitionOf(high: number, low: number, partitions: number): number {
  return Math.floor((((hashInt8(high, low) ^ 0x80000000) >>> 0) * partitions) / 2 ** 32);
}
