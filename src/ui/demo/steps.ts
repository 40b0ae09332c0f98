import type { DemoStep } from '../../engine/demo/demo.ts';

export const STEP_TITLES: Record<DemoStep, string> = {
  start: 'Start a cluster',
  seed: 'Load who follows whom',
  connect: 'Open WebSockets',
  replay: 'Replay real posts',
  post: 'Post, one at a time',
  verify: 'Prove every feed',
  stop: 'Stop and clean up',
};
