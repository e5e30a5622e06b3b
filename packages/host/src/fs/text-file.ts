/* Files whose text is made when it is read, as the kernel's seq_file does it. */
import { SystemError } from '../errors.js';
import type { UserBuffer } from '../mm/user-buffer.js';
import type { Process } from '../process/process.js';
import { File } from './file.js';
import type { VfsNode } from './vfs-node.js';

/** Makes the text of a file for whoever reads it. */
export type ShowText = (process: Process) => string;

/** An open file whose text is made anew when it is read from the start. */
export class TextFile extends File {
  readonly #show: () => string;
  readonly #store: ((text: string) => void) | undefined;
  #text = new Uint8Array(0);

  /** @param store - takes what is written; without it writing is EIO */
  constructor(flags: number, label: string, show: () => string, store?: (text: string) => void) {
    super({ flags, label, seek: 'normal' });
    this.#show = show;
    this.#store = store;
  }

  override read(buffer: UserBuffer, position: number): number {
    if (position === 0) this.#text = new TextEncoder().encode(this.#show());
    const rest = this.#text.subarray(position);
    const count = Math.min(buffer.length, rest.length);
    if (count > buffer.bytes.length) throw new SystemError('EFAULT', 'the buffer ends early');
    buffer.bytes.set(rest.subarray(0, count));
    return count;
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
