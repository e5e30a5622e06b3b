/*
 * The line of those who wait: first come, first served, and anybody can give up.
 */
import { SystemError } from '../errors.js';

/** Who waits, in order. */
export class WaitQueue<K = undefined> {
  readonly #waiting = new Set<Waiter<K>>();

  /** How many wait. */
  get length(): number {
    return this.#waiting.size;
  }

  /** What the first in line waits for; undefined when nobody waits. */
  get first(): { readonly kind: K } | undefined {
    for (const waiter of this.#waiting) return waiter;
    return undefined;
  }

  /**
   * Waits at the end of the line until woken.
   *
   * @param what - named in the error
   * @param onGiveUp - called after a waiter left the line by itself, since others may now go on
   * @throws EINTR - `signal` was aborted
   */
  wait(kind: K, what: string, signal?: AbortSignal, onGiveUp?: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const interrupted = () => new SystemError('EINTR', `wait for ${what} was interrupted`);
      if (signal?.aborted) {
        reject(interrupted());
        return;
      }
      const giveUp = () => {
        this.#waiting.delete(waiter);
        reject(interrupted());
        onGiveUp?.();
      };
      const waiter: Waiter<K> = {
        kind,
        wake: () => {
          signal?.removeEventListener('abort', giveUp);
          resolve();
        },
      };
      this.#waiting.add(waiter);
      signal?.addEventListener('abort', giveUp, { once: true });
    });
  }

  /** Wakes the first in line. False when nobody waits. */
  wakeFirst(): boolean {
    for (const waiter of this.#waiting) {
      this.#waiting.delete(waiter);
      waiter.wake();
      return true;
    }
    return false;
  }

  /** Wakes everybody who waits now. */
  wakeAll(): void {
    while (this.wakeFirst());
  }
}

interface Waiter<K> {
  readonly kind: K;
  wake(): void;
}
