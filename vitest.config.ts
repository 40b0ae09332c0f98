import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files that take more than a minute: begun last, one of them would run alone at the end. */
const LONGEST = [
  'chaos/short',
  'cli/rabbitmq',
  'bus/rabbitmq/faults',
  'cli/borrowedServers',
  'cli/celebrityCrash',
];

/** Begins the longest files first. A fresh clone has no record of durations, and vitest goes by size then. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) =>
      LONGEST.some((name) => moduleId.endsWith(`/${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.{ts,tsx}'],
    globalSetup: ['test/support/globalSetup.ts'],
    // Real servers on two cores: more files at a time only wait for each other.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    // A statement on Citus takes two servers.
    testTimeout: process.env.FEEDCTL_TEST_STORE === 'citus' ? 300_000 : 120_000,
    hookTimeout: 120_000,
    // What is polled for comes when it comes: a busy machine is no failure.
    expect: { poll: { timeout: 30_000 } },
  },
});
