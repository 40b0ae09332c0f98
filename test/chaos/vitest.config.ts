import { defineConfig } from 'vitest/config';

/** Runs chaos for as long as `npm run chaos` says. `npm test` has a short form of it. */
export default defineConfig({
  test: {
    include: ['test/chaos/**/*.chaos.ts'],
    globalSetup: ['test/support/globalSetup.ts'],
    testTimeout: 24 * 3_600_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 30_000 } },
    disableConsoleIntercept: true,
  },
});
