import { messageOf } from '../model/errors.ts';
import type { Log } from '../telemetry/log.ts';

/**
 * Open resources of a process. They are released once, in reverse order, even if a release fails.
 */
export class Resources {
  readonly #releases: { name: string; release: () => Promise<void> | void }[] = [];
  #releasing: Promise<void> | undefined;

  add(name: string, release: () => Promise<void> | void): void {
    this.#releases.push({ name, release });
  }

  /** Name of the resource that is being released: where a shutdown is stuck. */
  current: string | undefined;

  release(log?: Log): Promise<void> {
    this.#releasing ??= (async () => {
      for (let next = this.#releases.pop(); next; next = this.#releases.pop()) {
        this.current = next.name;
        try {
          await next.release();
        } catch (error) {
          log?.warn({ resource: next.name, reason: messageOf(error) }, 'release failed');
        }
      }
      this.current = undefined;
    })();
    return this.#releasing;
  }
}
