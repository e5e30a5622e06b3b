/*
 * Buffers that devices share: one exports memory or registers as a file, others attach to it and do DMA there. The exporter
 * may take it back: importers that can live with that give up their mappings when they are told.
 */
import { KernelBug, SystemError } from '../errors.js';
import type { Mapping } from '../mm/mapping.js';
import { File, type IoctlCall, type MmapRequest } from './file.js';
import { O, Seek } from './flags.js';

/** A contiguous piece of a buffer: physical address and length, in bytes. */
export interface DmaBufSegment {
  readonly phys: number;
  readonly length: number;
}

/** Who wants to use a buffer, and what it can cope with. */
export interface DmaBufImporter {
  /** Names it in messages. */
  readonly name: string;
  /** It can reach the registers of another device. */
  readonly peer2peer: boolean;
  /**
   * The buffer is taken back: mappings must be given up before this resolves. An importer without it can use only buffers
   * that stay.
   */
  invalidateMappings?(attachment: DmaBufAttachment): void | Promise<void>;
}

/** What an exporter does for its buffer. Source: include/linux/dma-buf.h struct dma_buf_ops */
export interface DmaBufOps {
  /**
   * An importer comes.
   *
   * @throws EOPNOTSUPP, ENODEV, ... - it can not use the buffer
   */
  attach?(attachment: DmaBufAttachment): void;
  /** It leaves. */
  detach?(attachment: DmaBufAttachment): void;
  /**
   * An importer begins to use the buffer.
   *
   * @throws ENODEV, ... - not at the moment
   */
  map(attachment: DmaBufAttachment): readonly DmaBufSegment[];
  /** It has ended. */
  unmap(attachment: DmaBufAttachment): void;
  /** A process maps the buffer, within its size. Absent: EINVAL. */
  mmap?(request: MmapRequest): Mapping | Promise<Mapping>;
  /** The last reference is gone, and with it all attachments. */
  release(): void | Promise<void>;
}

/** How a buffer is exported. */
export interface DmaBufOptions {
  /** Bytes. */
  readonly size: number;
  /** Access mode and O_NONBLOCK of the file; other bits are ignored. */
  readonly flags: number;
  readonly ops: DmaBufOps;
}

/** Flags of DMA_BUF_IOCTL_SYNC. Source: include/uapi/linux/dma-buf.h */
const Sync = { RW: 3, END: 4 } as const;
/** Source: include/uapi/linux/dma-buf.h DMA_BUF_IOCTL_SYNC, DMA_BUF_SET_NAME_A, DMA_BUF_SET_NAME_B */
const IOCTL_SYNC = 0x4008_6200;
const IOCTL_SET_NAME = [0x4004_6201, 0x4008_6201];
/** Bytes of a name with its end. Source: include/uapi/linux/dma-buf.h DMA_BUF_NAME_LEN */
const NAME_LENGTH = 32;

/** An importer at a buffer. */
export class DmaBufAttachment {
  readonly importer: DmaBufImporter;
  readonly #file: DmaBufFile;
  readonly #ops: DmaBufOps;
  #mapped = false;

  /** Use `DmaBufFile.attach`. */
  constructor(file: DmaBufFile, ops: DmaBufOps, importer: DmaBufImporter) {
    this.#file = file;
    this.#ops = ops;
    this.importer = importer;
  }

  /** Whether the buffer is mapped for this importer now. */
  get mapped(): boolean {
    return this.#mapped;
  }

  /** Whether the importer gives its mappings up when it is told. Source: dma_buf_attachment_is_revoke() */
  get revocable(): boolean {
    return this.importer.invalidateMappings !== undefined;
  }

  /**
   * Begins to use the buffer.
   *
   * @throws what the exporter says
   * @source drivers/dma-buf/dma-buf.c dma_buf_map_attachment()
   */
  map(): readonly DmaBufSegment[] {
    if (this.#mapped) throw new KernelBug('driver', `${this.importer.name} maps a buffer twice`);
    const segments = this.#ops.map(this);
    this.#mapped = true;
    return segments;
  }

  /** Ends it. Source: drivers/dma-buf/dma-buf.c dma_buf_unmap_attachment() */
  unmap(): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    this.#ops.unmap(this);
  }

  /** Leaves the buffer, whose file is put. Source: drivers/dma-buf/dma-buf.c dma_buf_detach() */
  async detach(): Promise<void> {
    this.unmap();
    this.#file.leave(this);
    this.#ops.detach?.(this);
    await this.#file.put();
  }
}

/** The file of a buffer. Source: drivers/dma-buf/dma-buf.c dma_buf_export(), dma_buf_fops */
export class DmaBufFile extends File {
  readonly #ops: DmaBufOps;
  readonly #size: number;
  readonly #attachments = new Set<DmaBufAttachment>();
  #name = '';

  constructor({ size, flags, ops }: DmaBufOptions) {
    super({ flags: flags & (O.ACCMODE | O.NONBLOCK), label: '/dmabuf:', seek: 'normal' });
    this.#size = size;
    this.#ops = ops;
  }

  /** Who is attached. */
  get attachments(): readonly DmaBufAttachment[] {
    return [...this.#attachments];
  }

  /**
   * Attaches an importer, which holds the file from then on.
   *
   * @throws what the exporter says
   * @source drivers/dma-buf/dma-buf.c dma_buf_dynamic_attach()
   */
  attach(importer: DmaBufImporter): DmaBufAttachment {
    const attachment = new DmaBufAttachment(this, this.#ops, importer);
    this.#ops.attach?.(attachment);
    this.#attachments.add(attachment);
    this.get();
    return attachment;
  }

  /** An importer has left; called by its attachment. */
  leave(attachment: DmaBufAttachment): void {
    this.#attachments.delete(attachment);
  }

  /**
   * Tells all importers that the buffer is taken back; resolves when none uses it any more.
   *
   * @source drivers/dma-buf/dma-buf.c dma_buf_invalidate_mappings()
   */
  async invalidateMappings(): Promise<void> {
    for (const attachment of this.attachments) {
      await attachment.importer.invalidateMappings?.(attachment);
      attachment.unmap();
    }
  }

  override size(): number {
    return this.#size;
  }

  /** Only tells the size. Source: drivers/dma-buf/dma-buf.c dma_buf_llseek() */
  override llseek(offset: number, whence: number): number {
    const end = whence === Seek.END;
    if ((!end && whence !== Seek.SET) || offset !== 0) {
      throw new SystemError('EINVAL', `seek to ${offset} of a buffer`, { syscall: 'lseek' });
    }
    return end ? this.#size : 0;
  }

  override mmap(request: MmapRequest): Mapping | Promise<Mapping> {
    if (!this.#ops.mmap || request.offset + request.length > this.#size) {
      const why = this.#ops.mmap ? 'past the end of the buffer' : 'the buffer can not be mapped by a process';
      throw new SystemError('EINVAL', why, { syscall: 'mmap' });
    }
    return this.#ops.mmap(request);
  }

  override ioctl(call: IoctlCall): number {
    if (call.request === IOCTL_SYNC) return sync(call);
    if (IOCTL_SET_NAME.includes(call.request)) return this.#setName(call);
    throw new SystemError('ENOTTY', `unknown request 0x${call.request.toString(16)}`, { syscall: 'ioctl' });
  }

  override fdinfo(): string[] {
    const lines = [`size:\t${this.#size}`, `count:\t${this.count}`];
    return this.#name === '' ? lines : [...lines, `name:\t${this.#name}`];
  }

  override async release(): Promise<void> {
    await this.#ops.release();
  }

  /** Source: drivers/dma-buf/dma-buf.c dma_buf_set_name() */
  #setName(call: IoctlCall): number {
    const bytes = call.copyIn(NAME_LENGTH);
    const end = bytes.indexOf(0);
    if (end < 0) throw new SystemError('EINVAL', `a name of ${NAME_LENGTH} bytes or more`, { syscall: 'ioctl' });
    this.#name = Buffer.from(bytes.subarray(0, end)).toString('latin1');
    return 0;
  }
}

/** Memory is always coherent here, so that there is nothing to do. Source: dma-buf.c dma_buf_ioctl() DMA_BUF_IOCTL_SYNC */
function sync(call: IoctlCall): number {
  const bytes = call.copyIn(8);
  const flags = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, call.order === 'little');
  if (flags > BigInt(Sync.RW | Sync.END) || (Number(flags) & Sync.RW) === 0) {
    throw new SystemError('EINVAL', `flags 0x${flags.toString(16)}`, { syscall: 'DMA_BUF_IOCTL_SYNC' });
  }
  return 0;
}
