/* Files whose text is made when it is read, as the kernel's seq_file does it. */
import { SystemError } from '../errors.js';
import type { UserBuffer } from '../mm/user-buffer.js';
import type { Process } from '../process/process.js';
import { File } from './file.js';
import { Seek } from './flags.js';
import type { VfsNode } from './vfs-node.js';

/** Makes the text of a file for whoever reads it. */
export type ShowText = (process: Process) => string;

/**
 * An open file whose text is made anew when it is read from the start, or from elsewhere than the last read ended.
 *
 * @source fs/seq_file.c seq_read_iter(), seq_lseek()
 */
export class TextFile extends File {
  readonly #show: () => string;
  readonly #store: ((text: string) => void) | undefined;
  #text = new Uint8Array(0);
  /** Where a read goes on in the text that was made. */
  #next = 0;

  /** @param store - takes what is written; without it writing is EIO */
  constructor(flags: number, label: string, show: () => string, store?: (text: string) => void) {
    super({ flags, label, seek: 'normal' });
    this.#show = show;
    this.#store = store;
  }

  override read(buffer: UserBuffer, position: number): number {
    if (buffer.length === 0) return 0;
    if (position === 0 || position !== this.#next) this.#text = new TextEncoder().encode(this.#show());
    const rest = this.#text.subarray(position);
    const count = Math.min(buffer.bytes.length, rest.length);
    if (count === 0 && rest.length > 0) throw new SystemError('EFAULT', 'the buffer is not accessible');
    buffer.bytes.set(rest.subarray(0, count));
    this.#next = position + count;
    return count;
  }

  /** The end of a text that is not made yet is unknown. */
  override llseek(offset: number, whence: number): number {
    const position = whence === Seek.CUR ? this.position + offset : offset;
    if (whence === Seek.END || position < 0) throw new SystemError('EINVAL', `position ${offset} by ${whence}`);
    this.position = position;
    return position;
  }

  override write(buffer: UserBuffer): number {
    if (this.#store === undefined) throw new SystemError('EIO', `${this.label} cannot be written`);
    if (buffer.bytes.length < buffer.length) throw new SystemError('EFAULT', 'the text is not accessible');
    this.#store(new TextDecoder().decode(buffer.bytes));
    return buffer.length;
  }
}

/** What a {@link TextNode} is made of. */
export interface TextNodeOptions {
  /** Where it is, for the links of /proc/<pid>/fd. */
  readonly path: string;
  /** Default `0o444`. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly show: ShowText;
  readonly store?: (text: string, process: Process) => void;
}

/** A node whose text is made when it is read. */
export class TextNode implements VfsNode {
  readonly kind = 'file';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly #options: TextNodeOptions;

  constructor(options: TextNodeOptions) {
    this.mode = options.mode ?? 0o444;
    this.uid = options.uid ?? 0;
    this.gid = options.gid ?? 0;
    this.#options = options;
  }

  open(process: Process, flags: number): File {
    const { path, show, store } = this.#options;
    return new TextFile(flags, path, () => show(process), store && ((text) => store(text, process)));
  }
}
