/*
 * Runtime power management of a device: as long as somebody uses it, or an administrator wants it on, it is active; when the
 * last user is gone it is suspended. What suspending means is up to whoever made the object, mostly the device's bus.
 */
import type { Clock } from '../clock.js';
import type { ErrnoCode } from '../errno.js';
import { isSystemError, KernelBug, SystemError } from '../errors.js';

/** How a device is suspended and resumed. Both may take their time, and refuse by throwing. */
export interface RuntimePmOps {
  /** @throws EBUSY, EAGAIN - not now: the device stays active. Any other errno ends runtime power management of the device */
  suspend?(): void | Promise<void>;
  resume?(): void | Promise<void>;
}

/** Where a device is. 'suspending' and 'resuming' while a callback runs. Source: include/linux/pm.h enum rpm_status */
export type RuntimeStatus = 'active' | 'resuming' | 'suspended' | 'suspending';

/** What a device with runtime power management needs to know of where it is. */
export interface RuntimePmOptions {
  /** Named in errors. */
  readonly name: string;
  /** Measures the time in a state. */
  readonly clock: Clock;
  readonly ops: RuntimePmOps;
}

/**
 * Users of a device and its state. It begins active, allowed to be suspended, without users, and disabled until `enable`.
 *
 * Differs: in Linux a device is suspended by a worker some time after its last user is gone; here before `put` resolves.
 * Devices do not keep their parents active.
 *
 * @source drivers/base/power/runtime.c
 */
export class RuntimePm {
  readonly #options: RuntimePmOptions;
  #usageCount = 0;
  #disableDepth = 1;
  #allowed = true;
  #status: RuntimeStatus = 'active';
  /** Why the device can not be suspended or resumed any more. */
  #error: ErrnoCode | undefined;
  /** A callback that runs. */
  #transition: Promise<void> | undefined;
  /** Since when it is in its state, and how long it was in each before. */
  #since: number | undefined;
  #activeMs = 0;
  #suspendedMs = 0;

  constructor(options: RuntimePmOptions) {
    this.#options = options;
  }

  /** How many use it; an administrator who wants it on counts as one. */
  get usageCount(): number {
    return this.#usageCount;
  }

  /** Whether it may be suspended. */
  get allowed(): boolean {
    return this.#allowed;
  }

  /** Where it is. */
  get status(): RuntimeStatus {
    return this.#status;
  }

  /** What `power/runtime_status` says. Source: drivers/base/power/sysfs.c runtime_status_show() */
  get statusText(): string {
    if (this.#error !== undefined) return 'error';
    return this.#disableDepth > 0 ? 'unsupported' : this.#status;
  }

  /** Milliseconds in which it was active, or resuming or suspending. */
  get activeMs(): number {
    this.#account();
    return this.#activeMs;
  }

  /** Milliseconds in which it was suspended. */
  get suspendedMs(): number {
    this.#account();
    return this.#suspendedMs;
  }

  /** From now on it is suspended when nobody uses it. Source: drivers/base/power/runtime.c pm_runtime_enable() */
  enable(): void {
    if (this.#disableDepth === 0)
      throw new KernelBug('refcount', `${this.#options.name}: unbalanced pm_runtime_enable`);
    this.#account();
    this.#disableDepth--;
  }

  /** It stays as it is until as many calls of `enable`. Source: drivers/base/power/runtime.c pm_runtime_disable() */
  async disable(): Promise<void> {
    await this.barrier();
    this.#account();
    this.#disableDepth++;
  }

  /**
   * It has to be active from now on, whoever uses it. Nothing happens when that is so already.
   *
   * @source drivers/base/power/runtime.c pm_runtime_forbid()
   */
  async forbid(): Promise<void> {
    if (!this.#allowed) return;
    this.#allowed = false;
    this.#usageCount++;
    try {
      await this.resume();
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }

  /** As `forbid`, before the device has ever been suspended. */
  forbidInitially(): void {
    if (!this.#allowed) return;
    this.#allowed = false;
    this.#usageCount++;
  }

  /** Takes `forbid` back. Source: drivers/base/power/runtime.c pm_runtime_allow() */
  async allow(): Promise<void> {
    if (this.#allowed) return;
    this.#allowed = true;
    await this.put();
  }

  /** One more user, who does not mind in which state it is. Source: include/linux/pm_runtime.h pm_runtime_get_noresume() */
  getNoresume(): void {
    this.#usageCount++;
  }

  /** One user less; it is not suspended now. Source: include/linux/pm_runtime.h pm_runtime_put_noidle() */
  putNoidle(): void {
    if (this.#usageCount === 0)
      throw new KernelBug('refcount', `${this.#options.name}: runtime PM usage count underflow`);
    this.#usageCount--;
  }

  /**
   * One more user, for whom it is resumed.
   *
   * @throws EACCES - runtime power management is disabled, and it is suspended
   * @throws EINVAL - an earlier suspend or resume has failed for good
   * @throws what its resume says; there is not one more user then
   * @source include/linux/pm_runtime.h pm_runtime_resume_and_get()
   */
  async resumeAndGet(): Promise<void> {
    this.#usageCount++;
    try {
      await this.resume();
    } catch (error) {
      this.putNoidle();
      throw error;
    }
  }

  /** As `resumeAndGet`, with one more user whatever happens. Source: include/linux/pm_runtime.h pm_runtime_get_sync() */
  async getSync(): Promise<void> {
    this.#usageCount++;
    await this.resume();
  }

  /**
   * One user less; without any it is suspended, unless that is refused.
   *
   * @source include/linux/pm_runtime.h pm_runtime_put()
   */
  async put(): Promise<void> {
    this.putNoidle();
    try {
      await this.suspend();
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }

  /** Waits while it is on its way to a state. Source: drivers/base/power/runtime.c pm_runtime_barrier() */
  async barrier(): Promise<void> {
    while (this.#transition !== undefined) await this.#transition;
  }

  /**
   * Makes it active.
   *
   * @throws as `resumeAndGet`
   * @source drivers/base/power/runtime.c rpm_resume()
   */
  async resume(): Promise<void> {
    // Looked at again after each: somebody else who waited may have begun the next.
    while (this.#transition !== undefined) await this.#transition;
    if (this.#error !== undefined) throw this.#failure('EINVAL', `runtime PM has failed with ${this.#error}`);
    if (this.#status === 'active') return;
    if (this.#disableDepth > 0) throw this.#failure('EACCES', 'runtime PM is disabled');
    await this.#move('resuming', 'active', 'suspended', () => this.#options.ops.resume?.());
  }

  /**
   * Suspends it if nobody uses it.
   *
   * @throws EAGAIN - somebody uses it
   * @throws EACCES - runtime power management is disabled
   * @throws EINVAL - an earlier suspend or resume has failed for good
   * @throws what its suspend says
   * @source drivers/base/power/runtime.c rpm_idle(), rpm_suspend()
   */
  async suspend(): Promise<void> {
    while (this.#transition !== undefined) await this.#transition;
    if (this.#status === 'suspended') return;
    if (this.#error !== undefined) throw this.#failure('EINVAL', `runtime PM has failed with ${this.#error}`);
    if (this.#disableDepth > 0) throw this.#failure('EACCES', 'runtime PM is disabled');
    if (this.#usageCount > 0) throw this.#failure('EAGAIN', `${this.#usageCount} use it`);
    await this.#move('suspending', 'suspended', 'active', () => this.#options.ops.suspend?.());
  }

  async #move(
    during: RuntimeStatus,
    after: RuntimeStatus,
    before: RuntimeStatus,
    fn: () => void | Promise<void>,
  ): Promise<void> {
    let done = () => {};
    this.#transition = new Promise((resolve) => {
      done = resolve;
    });
    this.#setStatus(during);
    try {
      await fn();
      this.#setStatus(after);
    } catch (error) {
      this.#setStatus(before);
      const lasting = isSystemError(error) && error.code !== 'EBUSY' && error.code !== 'EAGAIN';
      if (lasting) this.#error = error.code;
      throw error;
    } finally {
      this.#transition = undefined;
      done();
    }
  }

  #setStatus(status: RuntimeStatus): void {
    this.#account();
    this.#status = status;
  }

  /** Adds the time since the last change; while disabled, none passes. */
  #account(): void {
    const now = this.#options.clock.now();
    const passed = now - (this.#since ?? now);
    this.#since = now;
    if (this.#disableDepth > 0) return;
    if (this.#status === 'suspended') this.#suspendedMs += passed;
    else this.#activeMs += passed;
  }

  #failure(code: ErrnoCode, reason: string): SystemError {
    return new SystemError(code, reason, { syscall: 'pm_runtime', subject: this.#options.name });
  }
}
