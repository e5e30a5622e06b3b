/*
 * Open files of sysfs. A text file shows its value when it is read from the beginning, and goes on with that text
 * as long as it is read on; every write is one value.
 */
import { SystemError } from '../errors.js';
import { File, type MmapRequest } from '../fs/file.js';
import { DEFAULT_POLL, Poll } from '../fs/flags.js';
import type { InodeMapping } from '../mm/inode-mapping.js';
import type { Mapping } from '../mm/mapping.js';
import type { UserBuffer } from '../mm/user-buffer.js';
import type { Process } from '../process/process.js';
import type { Seams } from '../seams.js';
import { Mutex } from '../sync/mutex.js';
import type { Attribute, BinAttribute } from './attribute.js';
import type { SysfsFile } from './file.js';

/** Bytes that pass in one call, at most. */
const PAGE_SIZE = 4096;

/**
 * What both kinds have: one call at a time, and the file in its directory. Nobody here announces that a value changed
 * (`sysfs_notify`), so that whoever polls hears of what it has not read yet and of the end of the file only.
 */
abstract class SysfsOpenFile extends File {
  /** Its value was read, or it was tried. */
  protected seen = false;
  protected readonly entry: SysfsFile;
  protected readonly process: Process;
  protected readonly seams: Seams;
  readonly #lock: Mutex;

  constructor(seams: Seams, entry: SysfsFile, process: Process, flags: number) {
    super({ flags, label: entry.path(), seek: 'normal' });
    this.seams = seams;
    this.entry = entry;
    this.process = process;
    this.#lock = new Mutex(seams, 'kernfs_open_file');
  }

  /** Source: fs/kernfs/file.c kernfs_fop_poll(), kernfs_generic_poll() */
  override poll(): number {
    return this.seen && !this.entry.removed ? DEFAULT_POLL : DEFAULT_POLL | Poll.ERR | Poll.PRI;
  }

  protected async serialized<T>(call: () => Promise<T>): Promise<T> {
    using _held = await this.#lock.lock();
    return await call();
  }

  /**
   * The bytes of a write, as far as they pass at once.
   *
   * @throws EFAULT - they are not all accessible
   */
  protected taken(buffer: UserBuffer, limit = PAGE_SIZE): Uint8Array {
    const length = Math.min(buffer.length, limit);
    if (buffer.bytes.length < length) throw new SystemError('EFAULT', 'the buffer ends early', { subject: this.label });
    return buffer.bytes.slice(0, length);
  }

  /**
   * Copies what was read to the reader.
   *
   * @returns bytes copied
   * @throws EFAULT - nothing of the buffer is accessible
   */
  protected give(bytes: Uint8Array, buffer: UserBuffer): number {
    const count = Math.min(bytes.length, buffer.length, buffer.bytes.length);
    if (count === 0 && bytes.length > 0 && buffer.length > 0) {
      throw new SystemError('EFAULT', 'the buffer is not accessible', { subject: this.label });
    }
    buffer.bytes.set(bytes.subarray(0, count));
    return count;
  }

  protected ioError(): SystemError {
    return new SystemError('EIO', 'the attribute has no such operation', { subject: this.label });
  }
}

/**
 * An open text file.
 *
 * @source fs/sysfs/file.c sysfs_kf_seq_show(), sysfs_kf_write(); fs/seq_file.c seq_read_iter()
 */
export class SysfsTextFile extends SysfsOpenFile {
  readonly #attribute: Attribute;
  #text: Uint8Array = new Uint8Array();
  /** Where a read goes on in the text that was shown. */
  #next = 0;

  constructor(seams: Seams, entry: SysfsFile, attribute: Attribute, process: Process, flags: number) {
    super(seams, entry, process, flags);
    this.#attribute = attribute;
  }

  override read(buffer: UserBuffer, position: number): Promise<number> {
    return this.serialized(async () => {
      if (buffer.length === 0) return 0;
      if (position === 0 || position !== this.#next) this.#text = await this.#show();
      else if (position >= this.#text.length) this.entry.assertPresent();
      const count = this.give(this.#text.subarray(position), buffer);
      this.#next = position + count;
      return count;
    });
  }

  override write(buffer: UserBuffer, _position: number): Promise<number> {
    const bytes = this.taken(buffer);
    return this.serialized(() =>
      this.entry.whilePresent(async () => {
        if (bytes.length === 0) return 0;
        if (!this.#attribute.store) throw this.ioError();
        const text = Buffer.from(bytes).toString('latin1');
        return (await this.#attribute.store(text, this.process)) ?? bytes.length;
      }),
    );
  }

  async #show(): Promise<Uint8Array> {
    const text = await this.entry.whilePresent(() => {
      this.seen = true;
      if (!this.#attribute.show) throw this.ioError();
      return this.#attribute.show();
    });
    const bytes = Buffer.from(text, 'latin1');
    if (bytes.length < PAGE_SIZE) return bytes;
    this.seams.log.warn(`fill_read_buffer: show of ${this.label} returned bad count`);
    return bytes.subarray(0, PAGE_SIZE - 1);
  }
}

/**
 * An open binary file.
 *
 * @source fs/sysfs/file.c sysfs_kf_bin_read(), sysfs_kf_bin_write()
 */
export class SysfsBinFile extends SysfsOpenFile {
  declare readonly mapping?: InodeMapping;
  readonly #attribute: BinAttribute;

  constructor(seams: Seams, entry: SysfsFile, attribute: BinAttribute, process: Process, flags: number) {
    super(seams, entry, process, flags);
    this.#attribute = attribute;
    if (attribute.mapping) this.mapping = attribute.mapping;
  }

  /** Source: fs/kernfs/file.c kernfs_fop_mmap(), fs/sysfs/file.c sysfs_kf_bin_mmap() */
  override async mmap(request: MmapRequest): Promise<Mapping> {
    return await this.entry.whilePresent(() => {
      if (!this.#attribute.mmap)
        throw new SystemError('ENODEV', 'the attribute cannot be mapped', { subject: this.label });
      return this.#attribute.mmap(request);
    });
  }

  override read(buffer: UserBuffer, position: number): Promise<number> {
    return this.serialized(() =>
      this.entry.whilePresent(async () => {
        this.seen = true;
        const { size } = this.#attribute;
        const length = Math.min(buffer.length, PAGE_SIZE, size > 0 ? Math.max(0, size - position) : PAGE_SIZE);
        if (length === 0) return 0;
        if (!this.#attribute.read) throw this.ioError();
        return this.give(await this.#attribute.read(position, length, this.process), buffer);
      }),
    );
  }

  override write(buffer: UserBuffer, position: number): Promise<number> {
    const bytes = this.taken(buffer);
    return this.serialized(() =>
      this.entry.whilePresent(async () => {
        const { size } = this.#attribute;
        if (size > 0 && position >= size) throw new SystemError('EFBIG', `behind the end at ${size}`);
        const cut = size > 0 ? bytes.subarray(0, size - position) : bytes;
        if (cut.length === 0) return 0;
        if (!this.#attribute.write) throw this.ioError();
        return (await this.#attribute.write(position, cut, this.process)) ?? cut.length;
      }),
    );
  }
}
