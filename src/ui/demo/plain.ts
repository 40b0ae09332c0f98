import type { DemoSnapshot, DemoStep } from '../../engine/demo/demo.ts';
import { STEP_TITLES } from './steps.ts';

/** Writes one line for each finished step. */
export function plainDemo(write: (line: string) => void): {
  update(snapshot: DemoSnapshot): void;
  end(): void;
} {
  const written = new Set<string>();
  return {
    update(snapshot) {
      for (const [step, result] of Object.entries(snapshot.done) as [DemoStep, string][]) {
        if (written.has(step)) continue;
        written.add(step);
        write(`${STEP_TITLES[step]}: ${result}`);
      }
    },
    end() {},
  };
}
