import { render } from 'ink';
import type { DemoSnapshot } from '../../engine/demo/demo.ts';
import { DemoView } from './view.tsx';

const FRAME_MS = 80;

/** Draws the latest snapshot a dozen times a second. */
export function liveDemo(stream: NodeJS.WriteStream): { update(snapshot: DemoSnapshot): void; end(): void } {
  let latest: DemoSnapshot = { step: 'start', done: {}, posts: 0, deliveries: 0, pushed: 0, recent: [] };
  let tick = 0;
  const view = () => <DemoView snapshot={latest} tick={tick} width={stream.columns || 80} />;
  // The command handles Ctrl-C: it stops the cluster and cleans up.
  const app = render(view(), { stdout: stream, exitOnCtrlC: false, patchConsole: false });
  const timer = setInterval(() => {
    tick += 1;
    app.rerender(view());
  }, FRAME_MS);
  return {
    update(snapshot) {
      latest = snapshot;
    },
    end() {
      clearInterval(timer);
      app.rerender(view());
      app.unmount();
    },
  };
}
