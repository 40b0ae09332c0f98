import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.{ts,tsx}'],
    globalSetup: ['test/support/globalSetup.ts'],
    // Real servers on two cores: more files at a time only wait for each other.
    maxWorkers: 2,
    // A statement on Citus takes two servers.
    testTimeout: process.env.FEEDCTL_TEST_STORE === 'citus' ? 300_000 : 120_000,
    hookTimeout: 120_000,
    // What is polled for comes when it comes: a busy machine is no failure.
    expect: { poll: { timeout: 30_000 } },
  },
});
