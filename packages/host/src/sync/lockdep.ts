/*
 * The lock checker. In checked mode every task has the stack of locks it holds, and every pair "this class was taken
 * while that one was held" becomes an edge of a graph. An edge that closes a cycle is an order that can deadlock,
 * and is reported the first time that it is seen, whether or not the deadlock happened. Unchecked, all of this is
 * one comparison per lock.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { KernelBug } from '../errors.js';
import type { Origin } from '../origin.js';

/** One acquisition of a lock, from the moment it is asked for. */
export interface Acquisition {
  readonly lock: object;
  /** Lock class with the subclass: `device`, `group_lock/1`. */
  readonly lockClass: string;
  /** Where it was asked for. */
  readonly at: Origin;
  /** False: it keeps no order. */
  readonly validate: boolean;
  readonly task: LockTask | undefined;
}

/** How a lock is asked for. */
export interface AcquireOptions {
  /** Tells nested locks of one class apart. Default 0. */
  readonly subclass?: number | undefined;
  /** The caller does not wait, so that this acquisition cannot be part of a deadlock. */
  readonly trylock?: boolean;
  /** False: only a second acquisition of the same lock is reported, no order is kept. */
  readonly validate?: boolean;
}

/** What the lock checker knows of one thread of control. */
export interface LockTask {
  readonly name: string;
  readonly held: Acquisition[];
  /** The task that waits for this one. */
  parent: LockTask | undefined;
}

interface Edge {
  readonly from: Acquisition;
  readonly to: Acquisition;
}

/** The lock checker of one host. */
export class Lockdep {
  /** False: everything here does nothing, and tasks are not told apart. */
  readonly enabled: boolean;
  readonly #tasks = new AsyncLocalStorage<LockTask | undefined>();
  /** `edges.get(a).get(b)`: the first time that b was taken with a held. */
  readonly #edges = new Map<string, Map<string, Edge>>();
  /** Spin locks held just now; they never outlive a synchronous call, so that the task does not matter. */
  readonly #atomic: { readonly name: string; readonly at: Origin }[] = [];

  constructor(enabled: boolean) {
    this.enabled = enabled;
  }

  /**
   * Runs `fn` as a new task that its caller waits for: a system call. Locks that the caller holds count as held in
   * `assertHeld`, but their order against those taken in `fn` is not kept.
   *
   * @throws KernelBug('lock') - the task ended with a lock held
   */
  run<T>(task: string, fn: () => Promise<T>): Promise<T>;
  run<T>(task: string, fn: () => T): T;
  run(task: string, fn: () => unknown): unknown {
    return this.enabled ? this.#run({ name: task, held: [], parent: this.#tasks.getStore() }, fn) : fn();
  }

  /** As `run`, for a task that has nothing to do with its caller: a work item, a timer, a kernel thread. */
  spawn<T>(task: string, fn: () => Promise<T>): Promise<T>;
  spawn<T>(task: string, fn: () => T): T;
  spawn(task: string, fn: () => unknown): unknown {
    return this.enabled ? this.#run({ name: task, held: [], parent: undefined }, fn) : fn();
  }

  /**
   * Goes on in the current task, or begins one when there is none: for entry points that a system call reaches as
   * well as a caller that is no task, such as the registration of a driver.
   */
  enter<T>(task: string, fn: () => Promise<T>): Promise<T>;
  enter<T>(task: string, fn: () => T): T;
  enter(task: string, fn: () => unknown): unknown {
    return !this.enabled || this.#tasks.getStore() ? fn() : this.run(task, fn);
  }

  /**
   * Forgets the tasks, when their host has ended: before Node 24 each store that was ever used slows every promise of the
   * process down, and a test or an explorer makes hosts by the thousand.
   */
  end(): void {
    this.#tasks.disable();
  }

  /** Name of the current task; undefined outside of all tasks and in unchecked mode. */
  get task(): string | undefined {
    return this.#tasks.getStore()?.name;
  }

  /** Classes of the locks that the current task holds, oldest first. */
  held(): string[] {
    return (this.#tasks.getStore()?.held ?? []).map(({ lockClass }) => lockClass);
  }

  /**
   * A lock is about to be taken. Outside of all tasks nothing is checked, for it is not known what is held.
   *
   * @param name - lock class
   * @param at - where the caller of the lock is
   * @returns what `acquired` and `release` want back
   * @throws KernelBug('lock') - the task has it already, or the order contradicts one seen before
   */
  acquire(lock: object, name: string, at: Origin, options: AcquireOptions = {}): Acquisition {
    const { subclass = 0, trylock = false, validate = true } = options;
    const task = this.#tasks.getStore();
    const next: Acquisition = { lock, lockClass: subclass === 0 ? name : `${name}/${subclass}`, at, validate, task };
    if (!task || trylock) return next;
    for (const held of task.held) this.#refuseRecursion(held, next);
    if (validate) for (const held of task.held) if (held.validate) this.#addEdge(held, next);
    return next;
  }

  /** The lock was given to the task. */
  acquired(acquisition: Acquisition): void {
    acquisition.task?.held.push(acquisition);
  }

  /** The lock was given back, by whichever task. */
  release({ task, lock }: Acquisition): void {
    const index = task?.held.findLastIndex((held) => held.lock === lock) ?? -1;
    if (index >= 0) task?.held.splice(index, 1);
  }

  /** Whether the current task, or one that waits for it, holds the lock. Outside of all tasks it is not known. */
  holds(lock: object): boolean | undefined {
    const current = this.#tasks.getStore();
    if (!current) return undefined;
    for (let task: LockTask | undefined = current; task; task = task.parent) {
      if (task.held.some((held) => held.lock === lock)) return true;
    }
    return false;
  }

  /** A section begins in which nobody may wait. */
  enterAtomic(name: string, at: Origin): void {
    this.#atomic.push({ name, at });
  }

  /** The section ends. */
  leaveAtomic(): void {
    this.#atomic.pop();
  }

  /**
   * The caller is about to do something that may wait.
   *
   * @throws KernelBug('atomic-sleep') - a spin lock is held
   */
  mightSleep(what: string): void {
    const section = this.#atomic.at(-1);
    if (!section) return;
    throw new KernelBug(
      'atomic-sleep',
      `${what} may wait, under spin lock '${section.name}' taken at ${section.at.place}`,
      {
        origin: section.at.stack,
      },
    );
  }

  #run(task: LockTask, fn: () => unknown): unknown {
    let result: unknown;
    try {
      result = this.#tasks.run(task, fn);
    } catch (error) {
      endTask(task, { cause: error });
      throw error;
    }
    if (!(result instanceof Promise)) {
      endTask(task, {});
      return result;
    }
    return result.then(
      (value: unknown) => {
        endTask(task, {});
        return value;
      },
      (error: unknown) => {
        endTask(task, { cause: error });
        throw error;
      },
    );
  }

  #refuseRecursion(held: Acquisition, next: Acquisition): void {
    const same = held.lock === next.lock;
    if (!same && !(held.validate && next.validate && held.lockClass === next.lockClass)) return;
    const what = same ? 'takes a lock that it holds' : 'takes a second lock of a class that it holds, without subclass';
    throw new KernelBug(
      'lock',
      `task '${next.task?.name}' ${what}: '${next.lockClass}' at ${next.at.place}, held since ${held.at.place}`,
      { origin: held.at.stack },
    );
  }

  #addEdge(from: Acquisition, to: Acquisition): void {
    const known = this.#edges.get(from.lockClass);
    if (known?.has(to.lockClass)) return;
    const back = this.#path(to.lockClass, from.lockClass);
    if (back) throw inversion({ from, to }, back);
    if (known) known.set(to.lockClass, { from, to });
    else this.#edges.set(from.lockClass, new Map([[to.lockClass, { from, to }]]));
  }

  /** Shortest chain of edges from one class to another. */
  #path(from: string, to: string): Edge[] | undefined {
    const reached = new Map<string, Edge | undefined>([[from, undefined]]);
    for (const lockClass of reached.keys()) {
      if (lockClass === to) {
        const path: Edge[] = [];
        for (let edge = reached.get(to); edge; edge = reached.get(edge.from.lockClass)) path.unshift(edge);
        return path;
      }
      for (const [next, edge] of this.#edges.get(lockClass) ?? []) if (!reached.has(next)) reached.set(next, edge);
    }
    return undefined;
  }
}

function endTask(task: LockTask, options: { cause?: unknown }): void {
  task.parent = undefined;
  const left = task.held[0];
  if (!left) return;
  throw new KernelBug('lock', `task '${task.name}' ended with '${left.lockClass}' held, taken at ${left.at.place}`, {
    ...options,
    origin: left.at.stack,
  });
}

function inversion(edge: Edge, back: readonly Edge[]): KernelBug {
  const lines = back.map(
    ({ from, to }) =>
      `  before, task '${to.task?.name}' took '${to.lockClass}' at ${to.at.place}, with '${from.lockClass}' held since ${from.at.place}`,
  );
  const { from, to } = edge;
  return new KernelBug(
    'lock',
    [
      `task '${to.task?.name}' takes '${to.lockClass}' at ${to.at.place}, with '${from.lockClass}' held since ${from.at.place}`,
      ...lines,
    ].join('\n'),
    { origin: back[0]?.to.at.stack },
  );
}
