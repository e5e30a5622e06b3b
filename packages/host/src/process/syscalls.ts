/*
 * Where system calls can be watched, as ptrace or the raw_syscalls tracepoints let one watch them: each observer hears
 * of a call when it enters the kernel and when it leaves it. While nobody listens a call costs one look at a flag.
 */
import type { Process } from './process.js';
import type { TransferBuffer } from './transfer.js';

/** Arguments of a system call by their names in the manual, in order. */
export type SyscallArguments = Readonly<Record<string, number | bigint | string | undefined>>;

/** A system call on its way in. */
export interface Syscall {
  readonly process: Process;
  /** Its name: `ioctl`, `pread`. */
  readonly name: string;
  readonly args: SyscallArguments;
  /** What a read fills or a write takes. */
  readonly buffer?: TransferBuffer;
}

/** How a system call ended: with a value, or with what it threw. */
export type SyscallOutcome = { readonly value: unknown } | { readonly error: unknown };

/**
 * Hears of a call before it does anything; memory and descriptors are as the caller left them. What it returns is called
 * when the call is over, with the caller's arguments still in place. Neither may throw or change anything.
 */
export type SyscallObserver = (call: Syscall) => ((outcome: SyscallOutcome) => void) | undefined;

/** The system calls of a host, for those who want to watch. */
export class Syscalls {
  readonly #observers = new Set<SyscallObserver>();

  /** Whether anybody listens. */
  get watched(): boolean {
    return this.#observers.size > 0;
  }

  /** Calls `observer` with every call that begins from now on, until disposed of. */
  subscribe(observer: SyscallObserver): Disposable {
    const own: SyscallObserver = (call) => observer(call);
    this.#observers.add(own);
    return {
      [Symbol.dispose]: () => {
        this.#observers.delete(own);
      },
    };
  }

  /** Makes a call that may wait, and tells of it. Called by the process. */
  async call<T>(call: Syscall, run: () => Promise<T>): Promise<T> {
    const leave = this.#enter(call);
    try {
      const value = await run();
      leave({ value });
      return value;
    } catch (error) {
      leave({ error });
      throw error;
    }
  }

  /** Makes a call that answers at once, or with a promise where it has to wait, and tells of it. */
  callNow<T>(call: Syscall, run: () => T): T {
    const leave = this.#enter(call);
    try {
      const value = run();
      if (!(value instanceof Promise)) {
        leave({ value });
        return value;
      }
      const told = value.then(
        (later: unknown) => {
          leave({ value: later });
          return later;
        },
        (error: unknown) => {
          leave({ error });
          throw error;
        },
      );
      return told as T;
    } catch (error) {
      leave({ error });
      throw error;
    }
  }

  #enter(call: Syscall): (outcome: SyscallOutcome) => void {
    const leaving = [...this.#observers].map((observer) => observer(call));
    return (outcome) => {
      for (const leave of leaving) leave?.(outcome);
    };
  }
}
