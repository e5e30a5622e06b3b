/**
 * The two data files of a migration: one that is read on the way out, one that is written on the way in. Neither has
 * positions. Both work until the device ends them, when it leaves the state that they belong to; the descriptor stays
 * open after that and answers ENODEV.
 */
import { VfioError } from '@vfio/core';
import { File, type IoctlCall, type Module, O, type UserBuffer } from '@vfio/host';
import { STREAM_MAGIC, STREAM_VERSION, streamHeader, streamSize } from './uapi.js';

const LABEL = 'anon_inode:mtty_mig';

/** What both kinds have: the bytes, how many of them are valid, and how far the user is. */
abstract class MigrationFile extends File {
  /** Ports of the device, 1 or 2. */
  readonly ports: number;
  protected readonly data: Uint8Array;
  readonly #module: Module;
  #filled = 0;
  #position = 0;
  #ended = false;

  /**
   * @param module - stays loaded as long as somebody has the file, also when the device is long gone
   * @throws ENOENT - it is going
   */
  constructor(flags: number, module: Module, ports: number) {
    super({ flags, label: LABEL, seek: 'stream' });
    if (!module.tryGet()) throw new VfioError('ENOENT', `module ${module.name} is going`);
    this.#module = module;
    this.ports = ports;
    this.data = new Uint8Array(streamSize(ports));
  }

  /** Valid bytes. */
  get filled(): number {
    return this.#filled;
  }

  /** Bytes the user has read or written. */
  protected get cursor(): number {
    return this.#position;
  }

  /** The device no longer answers for the file. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * From now on every use of the file is ENODEV, by whatever descriptor.
   *
   * @source samples/vfio-mdev/mtty.c mtty_disable_file()
   */
  end(): void {
    this.#ended = true;
    this.#filled = 0;
    this.#position = 0;
  }

  override release(): void {
    this.end();
    this.#module.put();
  }

  protected fill(bytes: number): void {
    this.#filled += bytes;
  }

  protected advance(bytes: number): void {
    this.#position += bytes;
  }

  protected requireLive(syscall: string): void {
    if (this.#ended) throw new VfioError('ENODEV', 'the device left the state of this data file', { syscall });
  }
}

/**
 * What is read in PRE_COPY, PRE_COPY_P2P and STOP_COPY. It begins with the header; the ports follow in STOP_COPY.
 *
 * @source samples/vfio-mdev/mtty.c mtty_save_device_data(), mtty_save_read()
 */
export class SaveFile extends MigrationFile {
  readonly #request: (file: SaveFile, call: IoctlCall) => Promise<number>;

  /** @param request - answers the requests of the file */
  constructor(module: Module, ports: number, request: (file: SaveFile, call: IoctlCall) => Promise<number>) {
    super(O.RDONLY, module, ports);
    this.#request = request;
    const { major: majorVer, minor: minorVer } = STREAM_VERSION;
    streamHeader.write(this.data, { magic: STREAM_MAGIC, majorVer, minorVer, nrPorts: ports, flags: 0 }, 'little');
    this.fill(streamHeader.size);
  }

  /** Bytes that can still be read. */
  get remaining(): number {
    return this.filled - this.cursor;
  }

  /** Adds the next record. */
  append(record: Uint8Array): void {
    this.data.set(record, this.filled);
    this.fill(record.length);
  }

  override read(buffer: UserBuffer): number {
    this.requireLive('read');
    const count = Math.min(this.remaining, buffer.length);
    // what lies before the fault arrives, but the position stays
    buffer.bytes.set(this.data.subarray(this.cursor, this.cursor + Math.min(count, buffer.bytes.length)));
    if (count > buffer.bytes.length) throw new VfioError('EFAULT', 'the buffer ends too early', { syscall: 'read' });
    this.advance(count);
    return count;
  }

  override ioctl(call: IoctlCall): Promise<number> {
    return this.#request(this, call);
  }
}

/**
 * What is written in RESUMING. The header is checked once, by the write that completes it, and nothing after it.
 *
 * @source samples/vfio-mdev/mtty.c mtty_resume_device_data(), mtty_resume_write()
 */
export class ResumeFile extends MigrationFile {
  constructor(module: Module, ports: number) {
    super(O.WRONLY, module, ports);
  }

  /** Everything that the device needs has arrived. */
  get complete(): boolean {
    return this.filled >= this.data.length;
  }

  /** The bytes from `offset` on, `length` of them, in place. */
  slice(offset: number, length: number): Uint8Array {
    return this.data.subarray(offset, offset + length);
  }

  override write(buffer: UserBuffer): number {
    const { bytes, length } = buffer;
    const end = this.cursor + length;
    // before the file is asked whether it lives
    if (end > this.data.length) {
      throw new VfioError('ENOMEM', `${end} bytes, the device has ${this.data.length}`, { syscall: 'write' });
    }
    this.requireLive('write');
    this.data.set(bytes.subarray(0, length), this.cursor);
    if (bytes.length < length) throw new VfioError('EFAULT', 'the buffer ends too early', { syscall: 'write' });
    const before = this.filled;
    this.advance(length);
    this.fill(length);
    // the bytes count even when the header is wrong, and the next write goes on behind them
    if (before < streamHeader.size && this.filled >= streamHeader.size) this.#checkHeader();
    return length;
  }

  #checkHeader(): void {
    const header = streamHeader.decode(this.data, 'little');
    const valid =
      header.magic === STREAM_MAGIC &&
      header.majorVer === STREAM_VERSION.major &&
      header.minorVer === STREAM_VERSION.minor &&
      header.nrPorts === this.ports &&
      header.flags === 0;
    if (!valid)
      throw new VfioError('EFAULT', `no stream of ${this.ports} ports begins like this`, { syscall: 'write' });
  }
}
