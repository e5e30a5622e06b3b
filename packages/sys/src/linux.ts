// The system calls of this process, and everything that was opened by them. Whoever needs some makes one of these; at its
// end it says what was forgotten.

import { type ErrnoCode, errnoName, SystemError } from '@vfio/host';
import { type Calls, type Library, loadLibrary, type Watch } from './calls.js';
import { MapFlag, MapProt } from './constants.js';
import { NativeMemory } from './memory.js';
import { type Entry, type OpenResource, OpenTable } from './open-table.js';

/** How system calls are made. */
export interface LinuxOptions {
  /** Keeps the stack of whoever opens something, for the list of what was forgotten. */
  readonly checked?: boolean;
}

/** How a file is mapped. */
export interface MapOptions {
  /** From the start of the file, whole pages. */
  readonly offset: number;
  /** Bytes, whole pages. */
  readonly length: number;
  /** For writing too; for reading only otherwise. */
  readonly write: boolean;
}

const PAGE = 4096;

/** The system calls, and what is open through them. */
export class Linux implements Disposable {
  readonly calls: Calls;
  readonly table: OpenTable;
  readonly #library: Library;
  /** Mappings that nobody can reach any more. */
  readonly #unreachable: FinalizationRegistry<readonly [address: number, length: number]>;

  private constructor(library: Library, options: LinuxOptions) {
    this.#library = library;
    this.calls = library.calls;
    this.table = new OpenTable(options.checked === true);
    this.#unreachable = new FinalizationRegistry(([address, length]) => void library.calls.munmap(address, length));
  }

  /**
   * Finds the system calls.
   *
   * @throws SystemError ENOSYS - not Linux on x86-64 or arm64, or koffi is not installed for it
   */
  static async load(options: LinuxOptions = {}): Promise<Linux> {
    return new Linux(await loadLibrary(), options);
  }

  /** The number of the last failure; to be asked before the next call. */
  errno(): number {
    return this.#library.errno();
  }

  /** The last failure as an error. */
  failure(syscall: string, subject?: string | number): SystemError {
    const number = this.#library.errno();
    const code: ErrnoCode | undefined = errnoName(number);
    const options = subject === undefined ? { syscall } : { syscall, subject: String(subject) };
    return new SystemError(code ?? 'EIO', code === undefined ? `error ${number}` : 'the kernel refused', options);
  }

  /**
   * The result of a call.
   *
   * @throws SystemError - it was negative
   */
  check(result: number, syscall: string, subject?: string | number): number {
    if (result < 0) throw this.failure(syscall, subject);
    return result;
  }

  /**
   * Memory that system calls can be given, of zeros.
   *
   * @param length - bytes; rounded up to whole pages, which cost nothing until they are touched
   * @throws SystemError ENOMEM - there is no room for it
   */
  memory(length: number, what: string): NativeMemory {
    const size = Math.ceil(length / PAGE) * PAGE;
    const address = this.#mmap(0, size, MapProt.READ | MapProt.WRITE, anonymous, -1, 0);
    return this.#own(address, size, this.table.add('memory', `${length} bytes of ${what}`));
  }

  /**
   * A file's own bytes. Whoever can shorten the file can make this process die of SIGBUS: map only what is sealed against
   * it, or belongs to this process.
   *
   * @throws SystemError - EACCES, EINVAL, ENODEV, ENOMEM: as mmap says
   */
  map(fd: number, { offset, length, write }: MapOptions, what: string): NativeMemory {
    const prot = MapProt.READ | (write ? MapProt.WRITE : 0);
    const address = this.#mmap(0, length, prot, MapFlag.SHARED, fd, offset);
    return this.#own(address, length, this.table.add('mapping', `mapping of ${length} bytes of ${what}`));
  }

  /** Has the event loop call `fn` whenever a descriptor can be read. */
  watch(fd: number, fn: () => void, what: string): Watch {
    const entry = this.table.add('watch', what);
    const watch = this.#library.watch(fd, fn);
    return {
      stop: () => {
        entry.release();
        watch.stop();
      },
      ref: () => watch.ref(),
      unref: () => watch.unref(),
    };
  }

  /**
   * Ends it.
   *
   * @throws AggregateError - something is open: each as an error with the stack of who opened it, if that was asked for
   */
  [Symbol.dispose](): void {
    const open = this.table.list();
    if (open.length === 0) return;
    throw new AggregateError(open.map(asError), `still open: ${open.map(({ what }) => what).join(', ')}`);
  }

  #mmap(at: number, length: number, prot: number, flags: number, fd: number, offset: number): number {
    const address = this.calls.mmap(at, length, prot, flags, fd, offset);
    // -1 as an address is beyond what a number holds
    if (typeof address !== 'number') throw this.failure('mmap', fd);
    return address;
  }

  /**
   * A buffer over a mapping can not be taken back from who has it, and an access to memory that is gone ends the process.
   * So what is given back becomes zeros at the same place, and the place is given back with the buffer.
   */
  #own(address: number, length: number, entry: Entry): NativeMemory {
    const buffer = this.#library.view(address, length);
    this.#unreachable.register(buffer, [address, length]);
    return new NativeMemory(address, buffer, entry, () => {
      this.#mmap(address, length, MapProt.READ | MapProt.WRITE, anonymous | MapFlag.FIXED, -1, 0);
    });
  }
}

const anonymous = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE;

function asError({ what, origin }: OpenResource): Error {
  const error = new Error(`${what} is still open`);
  if (origin !== undefined) error.stack = origin;
  return error;
}
