/*
 * Work that is done later, by somebody else. A work item is queued at most once at a time and never runs twice at
 * the same time; whoever takes it away waits until it is really gone.
 */
import { noteOrigin } from '../origin.js';
import type { Seams } from '../seams.js';
import type { Tracked } from '../tracker.js';
import { LOCK_FRAMES } from './held.js';
import { WaitQueue } from './waiters.js';

/** Something to do later. It belongs to one queue at a time. */
export class Work {
  /** Named in labels and reports. */
  readonly name: string;
  /** What to do. An error that it throws is an oops. */
  readonly fn: () => void | Promise<void>;
  #queue: WorkQueue | undefined;

  constructor(fn: () => void | Promise<void>, name: string = fn.name || 'work') {
    this.fn = fn;
    this.name = name;
  }

  /** Whether it waits in a queue. */
  get pending(): boolean {
    return this.#queue?.isPending(this) ?? false;
  }

  /** Whether it runs. */
  get running(): boolean {
    return this.#queue?.isRunning(this) ?? false;
  }

  /** Called by the queue that takes it. */
  joinQueue(queue: WorkQueue): void {
    this.#queue = queue;
  }

  /**
   * Takes it from its queue, and waits while it runs. When this resolves it neither waits nor runs, unless it was
   * queued anew.
   *
   * @returns whether it was waiting
   * @throws KernelBug('lock') - called by the work itself, or with a lock held that it takes; in checked mode only
   */
  async cancelSync(): Promise<boolean> {
    return (await this.#queue?.cancelSync(this)) ?? false;
  }
}

/** How many items of a queue run at the same time. */
export interface WorkQueueOptions {
  /** Default 1: an ordered queue. */
  readonly maxActive?: number;
}

/** A queue of work items. */
export class WorkQueue {
  readonly #seams: Seams;
  readonly #name: string;
  readonly #maxActive: number;
  readonly #pending = new Map<Work, QueuedItem>();
  readonly #running = new Map<Work, QueuedItem>();
  readonly #changed = new WaitQueue();
  #destroyed = false;
  #sequence = 0;
  #workers = 0;

  /**
   * @param name - of the worker, in labels and reports
   * @throws ENOMEM - a fault was injected
   */
  constructor(seams: Seams, name: string, options: WorkQueueOptions = {}) {
    seams.faults.check(`alloc_workqueue:${name}`);
    this.#seams = seams;
    this.#name = name;
    this.#maxActive = options.maxActive ?? 1;
  }

  /**
   * Puts a work item at the end of the queue. It may be the one that runs just now: then it runs once more.
   *
   * @returns false when it waits in the queue already
   */
  queue(work: Work): boolean {
    if (work.pending) return false;
    if (
      this.#seams.log.warnOn(this.#destroyed, `work '${work.name}' is queued on '${this.#name}', which is destroyed`)
    ) {
      return false;
    }
    work.joinQueue(this);
    const tracked = this.#seams.tracker.track('work', () => `${work.name} on ${this.#name}`);
    this.#pending.set(work, { sequence: this.#sequence++, tracked });
    if (this.#workers < this.#maxActive) {
      this.#workers++;
      void this.#worker();
    }
    return true;
  }

  /** Whether a work item waits here. */
  isPending(work: Work): boolean {
    return this.#pending.has(work);
  }

  /** Whether a work item runs here. */
  isRunning(work: Work): boolean {
    return this.#running.has(work);
  }

  /**
   * Waits until all that was queued before this call has been done.
   *
   * @throws KernelBug('lock') - called by an item of the queue, or with a lock held that one takes; in checked mode only
   */
  async flush(): Promise<void> {
    this.#mayWaitFor(this, `(wq)${this.#name}`);
    const last = this.#sequence;
    const before = ({ sequence }: QueuedItem) => sequence < last;
    await this.#until(
      () => ![...this.#pending.values(), ...this.#running.values()].some(before),
      `flush ${this.#name}`,
    );
  }

  /** Waits until all is done, and takes no more. */
  async destroy(): Promise<void> {
    this.#mayWaitFor(this, `(wq)${this.#name}`);
    await this.#until(() => this.#pending.size === 0 && this.#running.size === 0, `destroy ${this.#name}`);
    this.#destroyed = true;
  }

  /** Takes a work item away and waits while it runs; `Work.cancelSync()`. */
  async cancelSync(work: Work): Promise<boolean> {
    this.#mayWaitFor(work, `(work)${work.name}`);
    const item = this.#pending.get(work);
    this.#pending.delete(work);
    item?.tracked.release();
    this.#changed.wakeAll();
    const running = this.#running.get(work);
    if (running) await this.#until(() => this.#running.get(work) !== running, `cancel ${work.name}`);
    return item !== undefined;
  }

  async #worker(): Promise<void> {
    // Nothing of the caller's is inherited: not its position in the stack, not its turn.
    await undefined;
    for (;;) {
      const turn = this.#seams.scheduler.switchPoint(`work ${this.#name}`);
      if (turn !== undefined) await turn;
      const next = this.#next();
      if (!next) break;
      await this.#runItem(...next);
    }
    this.#workers--;
  }

  /** The first item in line that does not run already. */
  #next(): [Work, QueuedItem] | undefined {
    for (const entry of this.#pending) if (!this.#running.has(entry[0])) return entry;
    return undefined;
  }

  async #runItem(work: Work, item: QueuedItem): Promise<void> {
    this.#pending.delete(work);
    this.#running.set(work, item);
    try {
      await this.#seams.lockdep.spawn(`kworker ${this.#name}:${work.name}`, () => this.#call(work));
    } catch (error) {
      this.#seams.log.oops(error, `work '${work.name}'`);
    } finally {
      this.#running.delete(work);
      item.tracked.release();
      this.#changed.wakeAll();
    }
  }

  async #call(work: Work): Promise<void> {
    const { lockdep } = this.#seams;
    if (!lockdep.enabled) return work.fn();
    // To the lock checker, queue and item are locks that are held while the item runs.
    const held = [
      { lock: this, lockClass: `(wq)${this.#name}` },
      { lock: work, lockClass: `(work)${work.name}` },
    ].map(({ lock, lockClass }) => {
      const acquisition = lockdep.acquire(lock, lockClass, noteOrigin(this.#call, 1));
      lockdep.acquired(acquisition);
      return acquisition;
    });
    try {
      await work.fn();
    } finally {
      for (const acquisition of held) lockdep.release(acquisition);
    }
  }

  /** Who waits for a work item waits, in effect, for every lock that it takes. */
  #mayWaitFor(what: object, lockClass: string): void {
    const { lockdep } = this.#seams;
    if (!lockdep.enabled) return;
    lockdep.mightSleep(`wait for ${lockClass}`);
    lockdep.acquire(what, lockClass, noteOrigin(this.#mayWaitFor, LOCK_FRAMES));
  }

  async #until(condition: () => boolean, label: string): Promise<void> {
    const turn = this.#seams.scheduler.switchPoint(label);
    if (turn !== undefined) await turn;
    while (!condition()) await this.#changed.wait(undefined, label);
  }
}

interface QueuedItem {
  readonly sequence: number;
  readonly tracked: Tracked;
}
