/*
 * "It has happened": tasks wait until somebody says so.
 */
import type { ClockTimer } from '../clock.js';
import { isSystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import { WaitQueue } from './waiters.js';

/** How a wait ended. */
export type WaitResult = 'done' | 'timeout' | 'interrupted';

/** An event that tasks wait for. Each `complete()` lets one waiter go on, `completeAll()` all, now and later. */
export class Completion {
  readonly #seams: Seams;
  readonly #name: string;
  /** Made for the first who waits. */
  #waiters: WaitQueue | undefined;
  /** Completions that nobody has taken yet. */
  #done = 0;

  /** @param name - for the scheduler's labels and errors */
  constructor(seams: Seams, name: string) {
    this.#seams = seams;
    this.#name = name;
  }

  /** Whether a wait would end at once. */
  get done(): boolean {
    return this.#done > 0;
  }

  /** Lets one waiter go on: the first, or the next that comes. */
  complete(): void {
    if (!this.#waiters?.wakeFirst()) this.#done++;
  }

  /** Lets all waiters go on, and all that come later. */
  completeAll(): void {
    this.#done = Number.POSITIVE_INFINITY;
    this.#waiters?.wakeAll();
  }

  /** Takes back what nobody has waited for, so that it can be used again. */
  reinit(): void {
    this.#done = 0;
  }

  /** Takes a completion if that needs no wait. */
  tryWait(): boolean {
    if (this.#done === 0) return false;
    this.#done--;
    return true;
  }

  /**
   * Waits for a completion and takes it.
   *
   * @throws EINTR - `signal` was aborted before
   * @throws KernelBug('atomic-sleep') - a spin lock is held
   */
  async wait(signal?: AbortSignal): Promise<void> {
    if (this.#seams.checked) this.#seams.lockdep.mightSleep(`completion '${this.#name}'`);
    const turn = this.#seams.scheduler.switchPoint(`completion ${this.#name}`);
    if (turn !== undefined) await turn;
    if (this.tryWait()) return;
    this.#waiters ??= new WaitQueue();
    await this.#waiters.wait(undefined, `completion '${this.#name}'`, signal);
  }

  /**
   * Waits for a completion and takes it, at most for some time. The timer is gone when this resolves.
   *
   * @returns `'interrupted'` when `signal` was aborted before the completion
   */
  async waitTimeout(ms: number, signal?: AbortSignal): Promise<WaitResult> {
    if (ms <= 0) return this.tryWait() ? 'done' : 'timeout';
    const end = new AbortController();
    let result: WaitResult = 'done';
    const finish = (why: WaitResult) => {
      result = why;
      end.abort();
    };
    const interrupted = () => finish('interrupted');
    let timer: ClockTimer | undefined;
    if (signal?.aborted) interrupted();
    else {
      signal?.addEventListener('abort', interrupted, { once: true });
      timer = this.#seams.clock.setTimer(ms, () => finish('timeout'));
    }
    try {
      await this.wait(end.signal);
      return 'done';
    } catch (error) {
      if (isSystemError(error, 'EINTR')) return result;
      throw error;
    } finally {
      timer?.cancel();
      signal?.removeEventListener('abort', interrupted);
    }
  }
}
