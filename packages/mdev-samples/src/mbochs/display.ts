/** What is shown, for a VMM that wants to show it: the answer to a plane query, and the pictures that were found so far. */
import { type DeviceGfxPlaneInfo, GfxPlaneType, VfioError } from '@vfio/core';
import { type DmaBufFile, type IoctlCall, PAGE_SIZE, type PageRange } from '@vfio/host';
import { DRM_FORMAT_XRGB8888, DrmPlaneType, ioctlQueryGfxPlane } from '../common/gfx-plane.js';
import { type Dispi, type DisplayMode, modesEqual } from './dispi.js';
import { type DmaBufOwner, MbochsDmaBuf } from './dmabuf.js';
import type { VideoMemory } from './memory.js';

/** The pictures of a device. */
export class MbochsDisplay {
  readonly #dispi: Dispi;
  readonly #memory: VideoMemory;
  readonly #owner: DmaBufOwner;
  readonly #records = new Map<number, MbochsDmaBuf>();
  /** Numbers are never used again, not even after a close. */
  #nextId = 1;

  constructor(dispi: Dispi, memory: VideoMemory, owner: DmaBufOwner) {
    this.#dispi = dispi;
    this.#memory = memory;
    this.#owner = owner;
  }

  /**
   * VFIO_DEVICE_QUERY_GFX_PLANE: how the display can be seen, or what it shows. Nothing is shown by a display that is off,
   * and there is no cursor.
   *
   * @throws ENOMEM - a picture that was not asked for before: the next query finds it
   * @throws EFAULT, EINVAL - see `ioctlQueryGfxPlane`
   * @source samples/vfio-mdev/mbochs.c mbochs_query_gfx_plane()
   */
  query(call: IoctlCall): number {
    return ioctlQueryGfxPlane(call, GfxPlaneType.DMABUF, (plane) => {
      const mode = plane.drmPlaneType === DrmPlaneType.PRIMARY ? this.#dispi.mode() : undefined;
      fill(plane, mode, mode ? this.#find(mode).id : 0);
    });
  }

  /**
   * The buffer of a picture, with a reference that belongs to the caller.
   *
   * @throws ENOENT - no picture of that number
   * @throws EINVAL - it can not be exported
   */
  open(id: number): DmaBufFile {
    const record = this.#records.get(id);
    if (!record) throw new VfioError('ENOENT', `no picture has number ${id}`);
    return record.open();
  }

  /** Forgets all pictures. */
  unlinkAll(): void {
    for (const record of this.#records.values()) record.unlink();
    this.#records.clear();
  }

  #find(mode: DisplayMode): MbochsDmaBuf {
    for (const record of this.#records.values()) if (modesEqual(record.mode, mode)) return record;
    this.#add(mode);
    // the kernel makes the record and forgets to use it
    throw new VfioError('ENOMEM', 'the picture was not known so far, ask again');
  }

  /**
   * Notes a picture, or nothing when a page of it can not be had.
   *
   * @throws ENOMEM - no memory for the record
   * @source samples/vfio-mdev/mbochs.c mbochs_dmabuf_alloc()
   */
  #add(mode: DisplayMode): void {
    this.#owner.seams.faults.check('mbochs_dmabuf_alloc:dmabuf');
    const id = this.#nextId++;
    const pages: PageRange[] = [];
    const first = Math.floor(mode.offset / PAGE_SIZE);
    for (let i = 0; i < Math.ceil(mode.size / PAGE_SIZE); i++) {
      const page = this.#memory.page(first + i);
      if (!page) return;
      pages.push(page);
    }
    this.#records.set(id, new MbochsDmaBuf(id, mode, pages, this.#owner));
  }
}

function fill(plane: DeviceGfxPlaneInfo, mode: DisplayMode | undefined, id: number): void {
  plane.drmFormat = mode ? DRM_FORMAT_XRGB8888 : 0;
  plane.width = mode?.width ?? 0;
  plane.height = mode?.height ?? 0;
  plane.stride = mode?.stride ?? 0;
  plane.size = mode?.size ?? 0;
  plane.dmabufId = id;
  plane.regionIndex = id; // the same bytes
}
