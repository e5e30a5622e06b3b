// Files of the client's memory: one descriptor of each, however often the client passes another one of the same file.

import { accessOf, Fd, fstat, type Linux } from '@vfio/sys';
import { invalid } from './refusal.js';

/** A file of the client, while somebody uses it. */
export interface ClientFile extends Disposable {
  readonly fd: number;
  /** Bytes, when it was last passed. */
  readonly size: number;
}

interface Entry {
  readonly fd: Fd;
  users: number;
}

/** The files that are in use. */
export class FileCache {
  readonly #linux: Linux;
  readonly #entries = new Map<string, Entry>();

  constructor(linux: Linux) {
    this.#linux = linux;
  }

  /** How many are open. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Takes a descriptor of the client over.
   *
   * @param number - becomes this object's to close, also when this throws
   * @param write - whether the file is to be written to
   * @throws VfioError EINVAL - not a regular file, or not open for this
   */
  take(number: number, write: boolean): ClientFile {
    const fd = new Fd(this.#linux, number, 'memory of a client');
    try {
      const stat = fstat(number);
      const access = accessOf(this.#linux, number);
      if (!stat.regular) throw invalid('the descriptor is of no file that could be memory');
      if (!access.read || (write && !access.write)) throw invalid('the descriptor is not open for this access');
      return this.#share(`${stat.dev}:${stat.ino}:${access.write}`, fd, stat.size);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  #share(key: string, fd: Fd, size: number): ClientFile {
    const known = this.#entries.get(key);
    if (known !== undefined) fd.close();
    const entry = known ?? { fd, users: 0 };
    this.#entries.set(key, entry);
    entry.users++;
    let used = true;
    return {
      fd: entry.fd.number,
      size,
      [Symbol.dispose]: () => {
        if (!used) return;
        used = false;
        if (--entry.users > 0) return;
        this.#entries.delete(key);
        entry.fd.close();
      },
    };
  }
}
