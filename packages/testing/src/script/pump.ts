// Lets a run go on. On a virtual clock nothing happens by itself once every process of the script waits: then time moves to the
// next timer. Without one, time passes by itself.

import type { VirtualClock } from '@vfio/host';
import { type Deferred, deferred } from './deferred.js';

/** Turns of the event loop without news after which everybody is taken to be waiting. */
const QUIET_TURNS = 4;

/** Drives the clock of a run. */
export class Pump {
  readonly #clock: VirtualClock | undefined;
  #news = 0;
  #nextNews: Deferred<void> = deferred();

  /**
   * @param clock - moved forward; undefined where time passes by itself
   */
  constructor(clock: VirtualClock | undefined) {
    this.#clock = clock;
  }

  /** Something happened: a step began or ended, a process came or went. */
  notify(): void {
    this.#news++;
    this.#nextNews.resolve();
    this.#nextNews = deferred();
  }

  /** Lets time pass until `ready`. Somebody has to have set a timer that makes it so in the end. */
  async until(ready: () => boolean): Promise<void> {
    while (!ready()) {
      if (!this.#clock) await this.#nextNews.promise;
      else if (!(await this.#quiet(ready)) && !(await this.#clock.runNext()) && !ready()) {
        throw new Error('the script waits, but no timer is left to wait for');
      }
    }
  }

  /** Lets promise jobs run until nothing more comes of them; true if it got ready meanwhile. */
  async #quiet(ready: () => boolean): Promise<boolean> {
    for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
      const before = this.#news;
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
      if (ready()) return true;
      if (this.#news !== before) quiet = -1;
    }
    return false;
  }
}
