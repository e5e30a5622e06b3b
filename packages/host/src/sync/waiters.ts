/*
 * The line of those who wait: first come, first served, and anybody can give up.
 */
import { SystemError } from '../errors.js';

/** Who waits, in order. */
export class WaitQueue<K = undefined> {
  /** Made for the first who waits: most lines never have one, and there are many of them. */
  #waiting: Set<Waiter<K>> | undefined;

  /** How many wait. */
  get length(): number {
    return this.#waiting?.size ?? 0;
  }

  /** What the first in line waits for; undefined when nobody waits. */
  get first(): { readonly kind: K } | undefined {
    for (const waiter of this.#waiting ?? []) return waiter;
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
      this.#waiting ??= new Set();
      const waiting = this.#waiting;
      const giveUp = () => {
        waiting.delete(waiter);
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
      waiting.add(waiter);
      signal?.addEventListener('abort', giveUp, { once: true });
    });
  }

  /** Wakes the first in line. False when nobody waits. */
  wakeFirst(): boolean {
    const waiting = this.#waiting;
    if (waiting === undefined) return false;
    for (const waiter of waiting) {
      waiting.delete(waiter);
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
