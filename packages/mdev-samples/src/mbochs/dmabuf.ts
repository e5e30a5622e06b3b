/**
 * Pictures as buffers. A record of a picture keeps its pages from the query that finds it until the device is closed, and
 * longer while somebody has the buffer; it can be exported again and again.
 */
import { getDevice, putDevice, type VfioDevice, VfioError } from '@vfio/core';
import {
  DmaBufFile,
  type DmaBufOps,
  type DmaBufSegment,
  type Mapping,
  type MmapRequest,
  type Module,
  O,
  PAGE_SIZE,
  type PageRange,
  type Seams,
} from '@vfio/host';
import type { DisplayMode } from './dispi.js';

/** Whom a buffer belongs to. */
export interface DmaBufOwner {
  readonly device: VfioDevice;
  /** The one that the driver is in: it stays while there is a buffer. */
  readonly module: Module;
  readonly seams: Seams;
}

/**
 * A picture that was asked for.
 *
 * @source samples/vfio-mdev/mbochs.c struct mbochs_dmabuf
 */
export class MbochsDmaBuf implements DmaBufOps {
  readonly id: number;
  readonly mode: DisplayMode;
  readonly #pages: readonly PageRange[];
  readonly #owner: DmaBufOwner;
  /** While the buffer is exported. */
  #file: DmaBufFile | undefined;
  /** The display knows it. */
  #linked = true;

  /** @param pages - the ones that the picture begins and ends in and those between; the record takes a reference of each */
  constructor(id: number, mode: DisplayMode, pages: readonly PageRange[], owner: DmaBufOwner) {
    this.id = id;
    this.mode = mode;
    this.#pages = pages.map((page) => page.get());
    this.#owner = owner;
  }

  /**
   * The buffer's file, with a reference that belongs to the caller: one file for all who ask, until the last of them has
   * closed it.
   *
   * @throws EINVAL - the picture does not begin at a page, or it could not be exported
   * @source samples/vfio-mdev/mbochs.c mbochs_get_gfx_dmabuf(), mbochs_dmabuf_export()
   */
  open(): DmaBufFile {
    // Differs: C gives a second descriptor no reference of its own
    if (this.#file) return this.#file.get();
    const { offset, size } = this.mode;
    if (offset % PAGE_SIZE !== 0) throw new VfioError('EINVAL', `the picture begins within a page, at ${offset}`);
    const { device, module, seams } = this.#owner;
    seams.faults.check('dma_buf_export:memory', 'EINVAL');
    if (!module.tryGet()) throw new VfioError('EINVAL', `module ${module.name} is going`);
    // Differs: C lets the device go before its buffers, and they look at it when they are released
    getDevice(device);
    this.#file = new DmaBufFile({ size, flags: O.RDONLY, ops: this });
    return this.#file;
  }

  /**
   * The display forgets the picture; a buffer that somebody has stays.
   *
   * @source samples/vfio-mdev/mbochs.c mbochs_close_device()
   */
  unlink(): void {
    this.#linked = false;
    this.#putPages();
  }

  /** The pages in order; what is consecutive is one piece. Source: samples/vfio-mdev/mbochs.c mbochs_map_dmabuf() */
  map(): DmaBufSegment[] {
    this.#owner.seams.faults.check('mbochs_map_dmabuf:sg');
    const segments: { phys: number; length: number }[] = [];
    for (const [i, page] of this.#pages.entries()) {
      const phys = page.basePfn * PAGE_SIZE;
      const length = Math.min(PAGE_SIZE, this.mode.size - i * PAGE_SIZE);
      const last = segments.at(-1);
      if (last && last.phys + last.length === phys) last.length += length;
      else segments.push({ phys, length });
    }
    return segments;
  }

  unmap(): void {}

  /**
   * Maps the picture. The file is open for reading only, and a mapping through such a file does not count as shared: so no
   * process gets as far as this.
   *
   * @throws EINVAL - a private mapping
   * @source samples/vfio-mdev/mbochs.c mbochs_mmap_dmabuf()
   */
  mmap({ offset, shared }: MmapRequest): Mapping {
    if (!shared) throw new VfioError('EINVAL', 'a buffer can be mapped shared only');
    const first = offset / PAGE_SIZE;
    const fault = (index: number) => {
      const range = this.#pages[first + index];
      return range ? { range, index: 0 } : 'SIGBUS';
    };
    return { kind: 'memory', fault };
  }

  /** Source: samples/vfio-mdev/mbochs.c mbochs_release_dmabuf() */
  async release(): Promise<void> {
    this.#file = undefined;
    // Differs: C gives the pages back although the record stays, and exports it without any the next time
    this.#putPages();
    const { device, module } = this.#owner;
    module.put();
    await putDevice(device);
  }

  /** Once neither the display nor anybody else wants the picture. */
  #putPages(): void {
    if (this.#linked || this.#file) return;
    for (const page of this.#pages) page.put();
  }
}
