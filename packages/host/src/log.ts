/*
 * The kernel's log: what `dmesg` would show, in a ring of bounded size, and the taints. A warning of the WARN()
 * kind is an entry with its stack; it never changes what the code does next.
 */
import type { Clock } from './clock.js';
import { noteOrigin } from './origin.js';

/** Severity of an entry, worst first. */
export type LogLevel = 'emerg' | 'alert' | 'crit' | 'err' | 'warn' | 'notice' | 'info' | 'debug';

/** One entry of the log. */
export interface LogEntry {
  /** Milliseconds on the host's clock. */
  readonly time: number;
  readonly level: LogLevel;
  readonly text: string;
  /** Driver and name of the device it is about: `vfio-pci 0000:01:00.0`. */
  readonly dev?: string;
  /** True for what WARN() and its relatives log. */
  readonly warn?: true;
  /** Of a WARN: where. */
  readonly stack?: string;
  /** What brought a task down, when this entry reports that. */
  readonly error?: unknown;
}

/** How large a log is. */
export interface KernelLogOptions {
  /** Entries kept; older ones are dropped. Default 10,000. */
  readonly capacity?: number;
}

/** How often something may be logged. */
export interface RateLimit {
  /** Default 5,000. */
  readonly intervalMs?: number;
  /** How often in an interval. Default 10. */
  readonly burst?: number;
}

/** Letters of the taints in the order of their bits. Source: kernel/panic.c taint_flags */
const taintLetters = 'PFSRMBUDAWCIOELKXTNJ';

/** The log of one host. */
export class KernelLog {
  /** Letters of the taints that are set: `U` after a no-IOMMU device was used, `W` after a WARN. */
  readonly taints: Set<string> = new Set();
  readonly #clock: Clock;
  readonly #capacity: number;
  /** Up to twice the capacity, so that dropping costs little; only the last `capacity` are shown. */
  #entries: LogEntry[] = [];
  readonly #oopses: unknown[] = [];
  readonly #subscribers = new Set<(entry: LogEntry) => void>();
  readonly #once = new Set<unknown>();
  readonly #limits = new Map<unknown, { since: number; passed: number }>();

  constructor(clock: Clock, options: KernelLogOptions = {}) {
    const { capacity = 10_000 } = options;
    if (!Number.isSafeInteger(capacity) || capacity < 1) throw new RangeError(`not a size for a log: ${capacity}`);
    this.#clock = clock;
    this.#capacity = capacity;
  }

  /** What is in the ring, oldest first; a copy. */
  get entries(): readonly LogEntry[] {
    return this.#entries.slice(-this.#capacity);
  }

  /** What brought tasks down that nobody waits for (see `oops`). */
  get oopses(): readonly unknown[] {
    return [...this.#oopses];
  }

  emerg(text: string, dev?: string): void {
    this.#add('emerg', text, dev);
  }

  alert(text: string, dev?: string): void {
    this.#add('alert', text, dev);
  }

  crit(text: string, dev?: string): void {
    this.#add('crit', text, dev);
  }

  err(text: string, dev?: string): void {
    this.#add('err', text, dev);
  }

  warn(text: string, dev?: string): void {
    this.#add('warn', text, dev);
  }

  notice(text: string, dev?: string): void {
    this.#add('notice', text, dev);
  }

  info(text: string, dev?: string): void {
    this.#add('info', text, dev);
  }

  debug(text: string, dev?: string): void {
    this.#add('debug', text, dev);
  }

  /**
   * WARN(): logs with the stack, and taints with `W`, when `condition` holds.
   *
   * @returns `condition`, so that it can stand in an `if`
   */
  warnOn(condition: boolean, text: string): boolean {
    if (condition) this.#warn(text, noteOrigin(this.warnOn).stack);
    return condition;
  }

  /**
   * WARN_ON_ONCE(): as `warnOn`, and silent after the first time for this key.
   *
   * @returns `condition`, every time
   */
  warnOnOnce(key: unknown, condition: boolean, text: string): boolean {
    if (condition && this.once(key)) this.#warn(text, noteOrigin(this.warnOnOnce).stack);
    return condition;
  }

  /** pr_warn_once(): a plain warning, the first time for this key. */
  warnOnce(key: unknown, text: string, dev?: string): void {
    if (this.once(key)) this.warn(text, dev);
  }

  /** True the first time that it is asked for a key, on this log. */
  once(key: unknown): boolean {
    if (this.#once.has(key)) return false;
    this.#once.add(key);
    return true;
  }

  /**
   * Tells whether something may be logged once more, as the `_ratelimited` functions of the kernel do.
   *
   * @param key - what is limited together
   */
  rateLimit(key: unknown, { intervalMs = 5000, burst = 10 }: RateLimit = {}): boolean {
    const now = this.#clock.now();
    let limit = this.#limits.get(key);
    if (!limit || now - limit.since > intervalMs) {
      limit = { since: now, passed: 0 };
      this.#limits.set(key, limit);
    }
    return limit.passed++ < burst;
  }

  /**
   * A task that nobody waits for (a work item, a timer) was brought down by an error. It is logged, taints with `D`
   * and is kept: a checked host throws it when it is disposed of.
   */
  oops(error: unknown, where: string): void {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    this.#oopses.push(error);
    this.#push({ time: this.#clock.now(), level: 'alert', text: `${where} died: ${text}`, error });
    this.taint('D', `${where} died`);
  }

  /** What WARN() and its relatives logged, as far as the ring still has it. */
  warnings(): LogEntry[] {
    return this.entries.filter((entry) => entry.warn);
  }

  /** Calls `fn` with every entry from now on, until disposed of. */
  subscribe(fn: (entry: LogEntry) => void): Disposable {
    const subscriber = (entry: LogEntry) => fn(entry);
    this.#subscribers.add(subscriber);
    return {
      [Symbol.dispose]: () => {
        this.#subscribers.delete(subscriber);
      },
    };
  }

  /**
   * Sets a taint, and logs why the first time.
   *
   * @param flag - its letter
   */
  taint(flag: string, why: string): void {
    if (flag.length !== 1 || !taintLetters.includes(flag)) throw new RangeError(`not a taint: '${flag}'`);
    if (this.taints.has(flag)) return;
    this.taints.add(flag);
    this.debug(`tainted '${flag}': ${why}`);
  }

  /** The taints as a number, as /proc/sys/kernel/tainted has it. */
  get taintMask(): number {
    return [...this.taints].reduce((mask, flag) => mask | (1 << taintLetters.indexOf(flag)), 0);
  }

  /** Writes an entry as `dmesg` does: `[    1.500000] vfio-pci 0000:01:00.0: text`. */
  format(entry: LogEntry): string {
    const seconds = (entry.time / 1000).toFixed(6).padStart(12);
    return `[${seconds}] ${entry.dev === undefined ? '' : `${entry.dev}: `}${entry.text}`;
  }

  #warn(text: string, stack: string): void {
    this.#push({ time: this.#clock.now(), level: 'warn', text, warn: true, stack });
    this.taint('W', text);
  }

  #add(level: LogLevel, text: string, dev: string | undefined): void {
    const time = this.#clock.now();
    this.#push(dev === undefined ? { time, level, text } : { time, level, text, dev });
  }

  #push(entry: LogEntry): void {
    this.#entries.push(entry);
    if (this.#entries.length >= 2 * this.#capacity) this.#entries = this.#entries.slice(-this.#capacity);
    for (const subscriber of [...this.#subscribers]) subscriber(entry);
  }
}
