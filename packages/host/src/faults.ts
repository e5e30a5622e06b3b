/*
 * Failure on request. Every step that can fail for want of a resource (memory, an id, a file in sysfs, a pin)
 * asks here, under its name. A test records the steps of an operation, then lets each of them fail once and looks
 * whether everything was undone. While nothing is recorded or armed, a step costs one comparison.
 */
import type { ErrnoCode } from './errno.js';
import { SystemError } from './errors.js';

/** A step that can fail, and what it fails with. */
export interface FaultStep {
  readonly name: string;
  readonly code: ErrnoCode;
}

/** The steps passed since `Faults.record()`. */
export interface FaultRecording extends Disposable {
  readonly steps: readonly FaultStep[];
  /** Ends the recording; `steps` stays. */
  stop(): void;
}

/** A fault that waits for its step. It fires once. */
export interface FaultArm extends Disposable {
  readonly fired: boolean;
  /** Name of the step that failed; undefined until then. */
  readonly step?: string;
  /** Takes the fault back; nothing happens when it has fired. */
  disarm(): void;
}

class Recording implements FaultRecording {
  readonly steps: FaultStep[] = [];
  readonly #faults: Set<Watcher>;

  constructor(watchers: Set<Watcher>) {
    this.#faults = watchers;
    watchers.add(this);
  }

  see(name: string, code: ErrnoCode): boolean {
    this.steps.push({ name, code });
    return false;
  }

  stop(): void {
    this.#faults.delete(this);
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

class Arm implements FaultArm {
  fired = false;
  step?: string;
  readonly #watchers: Set<Watcher>;
  readonly #matches: (name: string) => boolean;
  #left: number;

  constructor(watchers: Set<Watcher>, skip: number, matches: (name: string) => boolean) {
    this.#watchers = watchers;
    this.#left = skip;
    this.#matches = matches;
    watchers.add(this);
  }

  see(name: string): boolean {
    if (!this.#matches(name) || this.#left-- > 0) return false;
    this.fired = true;
    this.step = name;
    this.disarm();
    return true;
  }

  disarm(): void {
    this.#watchers.delete(this);
  }

  [Symbol.dispose](): void {
    this.disarm();
  }
}

interface Watcher {
  /** Sees a step pass; true makes it fail. */
  see(name: string, code: ErrnoCode): boolean;
}

/** The place where steps are numbered and made to fail. */
export class Faults {
  readonly #watchers = new Set<Watcher>();

  /**
   * A step that can fail is about to be made.
   *
   * @param step - `<function>:<what>`, named after the function that would fail in the kernel
   * @param code - what it fails with
   * @throws code - a fault is due at this step
   */
  check(step: string, code: ErrnoCode = 'ENOMEM'): void {
    if (this.#watchers.size > 0) this.#see(step, code);
  }

  /** Writes down every step from now on. */
  record(): FaultRecording {
    return new Recording(this.#watchers);
  }

  /**
   * Makes one of the steps to come fail, once.
   *
   * @param index - counts from 0, so that `failAt(i)` meets the step that a recording begun here has as `steps[i]`
   */
  failAt(index: number): FaultArm {
    if (!Number.isSafeInteger(index) || index < 0) throw new RangeError(`not the number of a step: ${index}`);
    return new Arm(this.#watchers, index, () => true);
  }

  /**
   * Makes a step fail by its name, once.
   *
   * @param name - the whole name, or a pattern that it matches
   * @param nth - 1 for the next step of that name, 2 for the one after it
   */
  failOn(name: string | RegExp, nth = 1): FaultArm {
    if (!Number.isSafeInteger(nth) || nth < 1) throw new RangeError(`not a count of steps: ${nth}`);
    return new Arm(this.#watchers, nth - 1, (step) =>
      typeof name === 'string' ? step === name : step.search(name) >= 0,
    );
  }

  #see(step: string, code: ErrnoCode): void {
    let due = false;
    for (const watcher of [...this.#watchers]) due = watcher.see(step, code) || due;
    if (due) throw new SystemError(code, `fault injected at ${step}`);
  }
}
