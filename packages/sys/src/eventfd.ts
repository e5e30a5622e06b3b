// Event counters: how one process tells another that something happened, an interrupt for instance.

import { Efd, PollEvent } from './constants.js';
import { Fd } from './fd.js';
import type { Linux } from './linux.js';
import type { NativeMemory } from './memory.js';

/** `struct pollfd`: descriptor, what is asked, what is so. */
const pollfd = { fd: 0, events: 4, revents: 6 } as const;
/** Where the parts are in the memory of {@link EventCalls}: a counter, a list of one descriptor. */
const counterAt = 0;
const listAt = 8;

/** Reads and writes of event counters. One is enough for all of them: nothing is kept between calls. */
export class EventCalls implements Disposable {
  readonly #linux: Linux;
  readonly #memory: NativeMemory;

  constructor(linux: Linux) {
    this.#linux = linux;
    this.#memory = linux.memory(listAt + 8, 'event counters');
  }

  /**
   * Adds 1 to a counter, without ever waiting: whoever has let it run full has not looked at it, and learns nothing new.
   *
   * @param fd - of an eventfd; of another file nothing is promised
   * @returns false if nothing was added
   */
  signal(fd: number): boolean {
    const { view, address } = this.#memory;
    const { calls } = this.#linux;
    // the other side may have made it so that a write waits
    view.setInt32(listAt + pollfd.fd, fd, true);
    view.setUint32(listAt + pollfd.events, PollEvent.OUT, true);
    if (calls.poll(address + listAt, 1, 0) !== 1) return false;
    if ((view.getUint16(listAt + pollfd.revents, true) & PollEvent.OUT) === 0) return false;
    view.setUint32(counterAt, 1, true);
    view.setUint32(counterAt + 4, 0, true);
    return calls.write(fd, address + counterAt, 8) === 8;
  }

  /** Takes what a counter has: 0 if it has nothing. */
  take(fd: number): bigint {
    const { view, address } = this.#memory;
    const { calls } = this.#linux;
    view.setInt32(listAt + pollfd.fd, fd, true);
    view.setUint32(listAt + pollfd.events, PollEvent.IN, true);
    if (calls.poll(address + listAt, 1, 0) !== 1) return 0n;
    return calls.read(fd, address + counterAt, 8) === 8 ? view.getBigUint64(counterAt, true) : 0n;
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/**
 * A new event counter that nobody waits for.
 *
 * @throws SystemError - EMFILE, ENFILE, ENOMEM
 */
export function eventfd(linux: Linux, initial = 0): Fd {
  const number = linux.check(linux.calls.eventfd(initial, Efd.NONBLOCK | Efd.CLOEXEC), 'eventfd');
  return new Fd(linux, number, 'eventfd');
}
