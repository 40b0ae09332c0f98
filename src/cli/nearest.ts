import { distance } from 'fastest-levenshtein';

/** Maximum share of wrong letters in a word that is still taken for a typing error. */
const MAX_SHARE = 0.4;

/** Returns the candidate that a mistyped word most likely means, if one is near enough. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: { candidate: string; share: number } | undefined;
  for (const candidate of candidates) {
    const share = distance(word, candidate) / candidate.length;
    if (share <= MAX_SHARE && (!best || share < best.share)) best = { candidate, share };
  }
  return best?.candidate;
}
