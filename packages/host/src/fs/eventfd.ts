/*
 * Event counters. The counter is an object of its own, as in the kernel: descriptors hold it through a file, drivers
 * hold it directly, and it outlives the file. A driver that waits on it learns of the last close as a hang-up.
 */
import { KernelBug, SystemError } from '../errors.js';
import type { UserBuffer } from '../mm/user-buffer.js';
import type { Process } from '../process/process.js';
import type { Seams } from '../seams.js';
import { WaitQueue } from '../sync/waiters.js';
import type { Tracked } from '../tracker.js';
import { File } from './file.js';
import { O, Poll } from './flags.js';

const MAX_COUNT = 2n ** 64n - 1n;

/** Something that can be signalled. What drivers trigger; an event counter of another program is one too. */
export interface EventSource {
  /** Signals it, without waiting. */
  signal(n?: bigint): void;
}

/** How an event counter is made. */
export interface EventFdOptions {
  /** A read takes 1 instead of all. */
  readonly semaphore?: boolean;
}

/** An event counter, reference counted. */
export class EventFd implements EventSource {
  /** A read takes 1 instead of all. */
  readonly semaphore: boolean;
  readonly #tracked: Tracked;
  readonly #signalled = new Set<() => void>();
  readonly #drained = new Set<() => void>();
  readonly #hungUp = new Set<() => void>();
  #count: bigint;
  #references = 1;

  /** @param initial - 32 bits, unsigned */
  constructor(seams: Seams, initial: number, options: EventFdOptions = {}) {
    this.#count = BigInt(initial >>> 0);
    this.semaphore = options.semaphore === true;
    this.#tracked = seams.tracker.track('eventfd', () => `count ${this.#count}, ${this.#references} references`);
  }

  /** Signals since the last read. */
  get count(): bigint {
    return this.#count;
  }

  /** A read would not wait. */
  get readable(): boolean {
    return this.#count > 0n;
  }

  /** Adds to the counter, which stops at 2^64-1, and wakes who waits for it. */
  signal(n = 1n): void {
    const room = MAX_COUNT - this.#count;
    this.#count += n < room ? n : room;
    callAll(this.#signalled);
  }

  /** Takes what a read takes: everything, or 1 of a semaphore; 0 when there is nothing. */
  consume(): bigint {
    if (this.#count === 0n) return 0n;
    const taken = this.semaphore ? 1n : this.#count;
    this.#count -= taken;
    callAll(this.#drained);
    return taken;
  }

  /**
   * Adds what a write adds, if the counter stays below 2^64-1.
   *
   * @returns false when it would not, and nothing was added
   */
  tryAdd(n: bigint): boolean {
    if (MAX_COUNT - this.#count <= n) return false;
    this.#count += n;
    callAll(this.#signalled);
    return true;
  }

  /** Calls `fn` at each signal and write, within the call that makes it. */
  onSignal(fn: () => void): Disposable {
    return subscribe(this.#signalled, fn);
  }

  /** Calls `fn` when a read has made room. */
  onDrain(fn: () => void): Disposable {
    return subscribe(this.#drained, fn);
  }

  /** Calls `fn` when the last descriptor is closed. The counter stays as long as references are held. */
  onHangup(fn: () => void): Disposable {
    return subscribe(this.#hungUp, fn);
  }

  /** The last descriptor is closed; called by the file. */
  hangUp(): void {
    callAll(this.#hungUp);
  }

  /** Takes a reference. */
  get(): this {
    if (this.#references === 0) throw new KernelBug('use-after-free', 'get of a freed eventfd');
    this.#references++;
    return this;
  }

  /** Gives a reference back. */
  put(): void {
    if (this.#references === 0) throw new KernelBug('double-free', 'put of a freed eventfd');
    if (--this.#references === 0) this.#tracked.release();
  }
}

/** What `eventfd` opens: the file of an event counter. */
export class EventFdFile extends File {
  readonly event: EventFd;
  readonly #id: number;
  readonly #seams: Seams;
  readonly #readers = new WaitQueue();
  readonly #writers = new WaitQueue();

  /**
   * @param event - of which the file takes over the caller's reference
   * @param options - `id` is shown in fdinfo
   */
  constructor(seams: Seams, event: EventFd, options: { nonblock: boolean; id: number }) {
    super({ flags: O.RDWR | (options.nonblock ? O.NONBLOCK : 0), label: 'anon_inode:[eventfd]', seek: 'noop' });
    this.event = event;
    this.#id = options.id;
    this.#seams = seams;
    event.onSignal(() => this.#readers.wakeAll());
    event.onDrain(() => this.#writers.wakeAll());
  }

  override read(buffer: UserBuffer): number | Promise<number> {
    if (buffer.length < 8) throw new SystemError('EINVAL', `${buffer.length} bytes do not hold a counter`);
    if (!this.event.readable) {
      if (this.nonblock) throw new SystemError('EAGAIN', 'the counter is 0');
      return this.#readLater(buffer);
    }
    return this.#take(buffer);
  }

  override write(buffer: UserBuffer): number | Promise<number> {
    if (buffer.length !== 8) throw new SystemError('EINVAL', `${buffer.length} bytes are not a counter`);
    if (buffer.bytes.length < 8) throw new SystemError('EFAULT', 'the counter is not accessible');
    const value = view(buffer.bytes).getBigUint64(0, littleEndian(buffer));
    if (value === MAX_COUNT) throw new SystemError('EINVAL', 'no counter can hold 2^64-1');
    if (this.event.tryAdd(value)) return 8;
    if (this.nonblock) throw new SystemError('EAGAIN', `adding ${value} to ${this.event.count} would overflow`);
    return this.#writeLater(buffer, value);
  }

  override poll(): number {
    const { count } = this.event;
    return (count > 0n ? Poll.IN : 0) | (count === MAX_COUNT ? Poll.ERR : 0) | (count < MAX_COUNT - 1n ? Poll.OUT : 0);
  }

  override onPoll(fn: () => void): Disposable {
    const signalled = this.event.onSignal(fn);
    const drained = this.event.onDrain(fn);
    return {
      [Symbol.dispose]: () => {
        signalled[Symbol.dispose]();
        drained[Symbol.dispose]();
      },
    };
  }

  override fdinfo(): string[] {
    return [
      `eventfd-count: ${this.event.count.toString(16).padStart(16)}`,
      `eventfd-id: ${this.#id}`,
      `eventfd-semaphore: ${this.event.semaphore ? 1 : 0}`,
    ];
  }

  override release(): void {
    this.event.hangUp();
    this.event.put();
  }

  async #readLater(buffer: UserBuffer): Promise<number> {
    await this.#turn();
    while (!this.event.readable) await this.#readers.wait(undefined, 'an eventfd', buffer.process?.signal);
    return this.#take(buffer);
  }

  async #writeLater(buffer: UserBuffer, value: bigint): Promise<number> {
    await this.#turn();
    while (!this.event.tryAdd(value)) await this.#writers.wait(undefined, 'an eventfd', buffer.process?.signal);
    return 8;
  }

  async #turn(): Promise<void> {
    const turn = this.#seams.scheduler.switchPoint('eventfd');
    if (turn !== undefined) await turn;
  }

  #take(buffer: UserBuffer): number {
    const value = this.event.consume();
    if (buffer.bytes.length < 8) throw new SystemError('EFAULT', 'the buffer is not accessible');
    view(buffer.bytes).setBigUint64(0, value, littleEndian(buffer));
    return 8;
  }
}

/**
 * The event counter behind a descriptor, with a reference that the caller has to put.
 *
 * @throws EBADF - not open
 * @throws EINVAL - not an eventfd
 * @source fs/eventfd.c eventfd_ctx_fdget()
 */
export function eventfdFromFd(process: Process, fd: number): EventFd {
  const file = process.files.get(fd);
  if (!(file instanceof EventFdFile)) throw new SystemError('EINVAL', `descriptor ${fd} is no eventfd`);
  return file.event.get();
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, 8);
}

function littleEndian({ process }: UserBuffer): boolean {
  return process?.byteOrder !== 'big';
}

function subscribe(to: Set<() => void>, fn: () => void): Disposable {
  // Each subscription is one of its own, even if two share a function.
  const entry = (): void => fn();
  to.add(entry);
  return { [Symbol.dispose]: () => void to.delete(entry) };
}

/** Calls those who were subscribed when it happened and have not left meanwhile. */
function callAll(subscribers: Set<() => void>): void {
  for (const fn of [...subscribers]) if (subscribers.has(fn)) fn();
}
