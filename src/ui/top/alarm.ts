import type { TopHealth } from '../../engine/monitoring/top/health.ts';

const RANK = { ok: 0, degraded: 1, down: 2 } as const;
/** Numbers in a problem, and the plurals with them, change from second to second. */
const nameOf = (problem: string): string => problem.replace(/\d[\d,.]*/g, '#').replace(/s\b/g, '');

/** Decides when the terminal rings: health got worse, or there is a problem that was not there before. */
export class Alarm {
  #before: TopHealth | undefined;

  rings(health: TopHealth): boolean {
    const before = this.#before;
    this.#before = health;
    if (!before) return false;
    const known = new Set(before.problems.map(nameOf));
    return (
      RANK[health.state] > RANK[before.state] ||
      health.problems.some((problem) => !known.has(nameOf(problem)))
    );
  }
}
