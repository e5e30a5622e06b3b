/*
 * The sleeping lock that readers share. Readers and writers stand in one line, so that neither starves: a reader
 * who comes after a waiting writer waits for it.
 */
import { KernelBug } from '../errors.js';
import type { OriginBoundary } from '../origin.js';
import type { Seams } from '../seams.js';
import {
  beforeAcquire,
  type Held,
  HeldLock,
  type LockClassOptions,
  type LockOptions,
  lockSwitchPoint,
} from './held.js';
import type { Acquisition } from './lockdep.js';
import { WaitQueue } from './waiters.js';

type Mode = 'read' | 'write';

/** A lock that many readers or one writer has. */
export class RwLock {
  readonly #seams: Seams;
  readonly #name: string;
  readonly #validate: boolean;
  readonly #waiters = new WaitQueue<Mode>();
  readonly #giveBackRead = () => {
    this.#readers--;
    this.#admit();
  };
  readonly #giveBackWrite = () => {
    this.#writing = false;
    this.#admit();
  };
  #readers = 0;
  #writing = false;

  /** @param name - lock class: all locks of a name are one to the lock checker */
  constructor(seams: Seams, name: string, options: LockClassOptions = {}) {
    this.#seams = seams;
    this.#name = name;
    this.#validate = options.validate ?? true;
  }

  /** How many readers have it. */
  get readers(): number {
    return this.#readers;
  }

  /** Whether a writer has it. */
  get writing(): boolean {
    return this.#writing;
  }

  /** Whether anybody has it. */
  get locked(): boolean {
    return this.#writing || this.#readers > 0;
  }

  /**
   * Takes the lock for reading.
   *
   * @throws EINTR - `signal` was aborted while waiting
   * @throws KernelBug('lock') - the lock checker refuses it; so it does a task that reads twice, because a writer may
   * come in between
   */
  read(options: LockOptions = {}): Promise<Held> {
    return this.#lock('read', this.read, options);
  }

  /**
   * Takes the lock for writing.
   *
   * @throws EINTR - `signal` was aborted while waiting
   * @throws KernelBug('lock') - the lock checker refuses it
   */
  write(options: LockOptions = {}): Promise<Held> {
    return this.#lock('write', this.write, options);
  }

  /** Takes the lock for reading if that needs no wait. */
  tryRead(): Held | undefined {
    return this.#tryLock('read', this.tryRead);
  }

  /** Takes the lock for writing if that needs no wait. */
  tryWrite(): Held | undefined {
    return this.#tryLock('write', this.tryWrite);
  }

  /**
   * Says that the caller needs the lock, in either mode; checked in checked mode.
   *
   * @throws KernelBug('lock') - nobody has it, or only other tasks
   */
  assertHeld(): void {
    this.#assert(this.locked, 'held');
  }

  /**
   * Says that the caller needs the lock for writing; checked in checked mode.
   *
   * @throws KernelBug('lock') - no writer has it, or another task
   */
  assertHeldWrite(): void {
    this.#assert(this.#writing, 'held for writing');
  }

  async #lock(mode: Mode, outside: OriginBoundary, options: LockOptions): Promise<Held> {
    const acquisition = beforeAcquire(this.#seams, this, this.#name, outside, {
      subclass: options.subclass,
      validate: this.#validate,
    });
    const turn = lockSwitchPoint(this.#seams, 'rwlock', `${this.#name} ${mode}`);
    if (turn !== undefined) await turn;
    if (this.#free(mode)) this.#count(mode);
    else await this.#waiters.wait(mode, `rwlock '${this.#name}'`, options.signal, () => this.#admit());
    return this.#held(mode, acquisition);
  }

  #tryLock(mode: Mode, outside: OriginBoundary): Held | undefined {
    if (!this.#free(mode)) return undefined;
    this.#count(mode);
    return this.#held(mode, beforeAcquire(this.#seams, this, this.#name, outside, { trylock: true }));
  }

  /** Whether who comes now need not wait: nobody stands in line, and those inside leave room. */
  #free(mode: Mode): boolean {
    return this.#waiters.length === 0 && this.#compatible(mode);
  }

  #compatible(mode: Mode): boolean {
    return !this.#writing && (mode === 'read' || this.#readers === 0);
  }

  /** Lets in from the front of the line as many as fit together. They are counted here, before they run. */
  #admit(): void {
    for (let first = this.#waiters.first; first && this.#compatible(first.kind); first = this.#waiters.first) {
      this.#count(first.kind);
      this.#waiters.wakeFirst();
    }
  }

  #count(mode: Mode): void {
    if (mode === 'read') this.#readers++;
    else this.#writing = true;
  }

  #held(mode: Mode, acquisition: Acquisition | undefined): Held {
    return new HeldLock(
      this.#seams,
      this.#name,
      acquisition,
      mode === 'read' ? this.#giveBackRead : this.#giveBackWrite,
    );
  }

  #assert(state: boolean, how: string): void {
    if (!this.#seams.checked || (state && this.#seams.lockdep.holds(this) !== false)) return;
    throw new KernelBug('lock', `rwlock '${this.#name}' is not ${how}${state ? ' by this task' : ''}`);
  }
}
