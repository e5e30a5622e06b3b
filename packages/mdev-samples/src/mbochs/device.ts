/**
 * The Bochs display as VFIO sees it. `init` takes its megabytes from the pool and `release` gives them back; the last close
 * forgets the picture and keeps the registers.
 */
import { Request, VfioError } from '@vfio/core';
import type { IoctlCall, Mapping, MmapRequest, Module, PhysicalMemory, Seams } from '@vfio/host';
import { SampleDevice } from '../common/device.js';
import { ioctlGetInfo, ioctlGetIrqInfo } from '../common/info.js';
import type { ResourcePool } from '../common/pool.js';
import { MbochsConfigSpace } from './config.js';
import { Dispi } from './dispi.js';
import { MbochsDisplay } from './display.js';
import { Edid } from './edid.js';
import { VideoMemory } from './memory.js';
import { Mmio } from './mmio.js';
import { MbochsRegions, NUM_REGIONS } from './regions.js';

const MEGABYTE = 0x10_0000;
/** Interrupt indexes that every PCI function has; all are empty. */
const NUM_IRQS = 5;

/** What a display is made of. */
export interface MbochsDeviceOptions {
  /** Video memory. */
  readonly megabytes: number;
  /** Largest picture that the monitor may claim, in pixels; 0 for no limit. */
  readonly maxXres: number;
  readonly maxYres: number;
  /** Where its megabytes are counted. */
  readonly pool: ResourcePool;
  /** Where its pages come from. */
  readonly memory: PhysicalMemory;
  /** The one that the driver is in. */
  readonly module: Module;
  readonly seams: Seams;
}

/**
 * A display adapter with the interface of Bochs.
 *
 * @source samples/vfio-mdev/mbochs.c struct mdev_state, mbochs_dev_ops
 */
export class MbochsDevice extends SampleDevice {
  protected override readonly regions: MbochsRegions;
  readonly #options: MbochsDeviceOptions;
  readonly #dispi: Dispi;
  readonly #memory: VideoMemory;
  readonly #display: MbochsDisplay;

  constructor(options: MbochsDeviceOptions) {
    super();
    const { megabytes, maxXres, maxYres, memory, module, seams } = options;
    const size = megabytes * MEGABYTE;
    const edid = new Edid(maxXres, maxYres);
    this.#options = options;
    this.#dispi = new Dispi(size);
    this.#memory = new VideoMemory(size, memory);
    this.#display = new MbochsDisplay(this.#dispi, this.#memory, { device: this, module, seams });
    this.regions = new MbochsRegions({
      config: new MbochsConfigSpace(size),
      mmio: new Mmio(edid, this.#dispi),
      edid,
      memory: this.#memory,
    });
  }

  /**
   * @throws ENOSPC - fewer megabytes are left than the display has
   * @throws ENOMEM - no memory for config space or the array of pages
   * @source samples/vfio-mdev/mbochs.c mbochs_init_dev()
   */
  override init(): void {
    const { megabytes, pool, seams } = this.#options;
    pool.take(megabytes);
    try {
      seams.faults.check('mbochs_init_dev:vconfig');
      seams.faults.check('mbochs_init_dev:pages');
    } catch (error) {
      pool.give(megabytes); // release is not called for a device whose init failed
      throw error;
    }
    seams.log.info(`mbochs_init_dev: ${megabytes} MB`, this.dev.logName());
  }

  /** Source: samples/vfio-mdev/mbochs.c mbochs_release_dev() */
  override release(): void {
    this.#options.pool.give(this.#options.megabytes);
  }

  /** Source: samples/vfio-mdev/mbochs.c mbochs_close_device() */
  override closeDevice(): void {
    this.#display.unlinkAll();
    this.#memory.drop();
  }

  override mmap(request: MmapRequest): Mapping {
    return this.regions.mmap(request);
  }

  /** Source: samples/vfio-mdev/mbochs.c mbochs_ioctl() */
  override ioctl(call: IoctlCall): number | Promise<number> {
    switch (call.request) {
      case Request.DEVICE_GET_INFO:
        return ioctlGetInfo(call, NUM_REGIONS);
      case Request.DEVICE_GET_IRQ_INFO:
        return ioctlGetIrqInfo(call, NUM_IRQS, (info) => {
          info.count = 0; // the flags stay what the caller has there
        });
      case Request.DEVICE_SET_IRQS:
        throw new VfioError('EINVAL', 'a display has no interrupts');
      case Request.DEVICE_RESET:
        this.#dispi.reset();
        return 0;
      case Request.DEVICE_QUERY_GFX_PLANE:
        return this.#display.query(call);
      case Request.DEVICE_GET_GFX_DMABUF:
        return this.#getGfxDmabuf(call);
      default:
        throw new VfioError('ENOTTY', `unknown request 0x${call.request.toString(16)}`);
    }
  }

  /** Source: samples/vfio-mdev/mbochs.c mbochs_get_gfx_dmabuf() */
  async #getGfxDmabuf(call: IoctlCall): Promise<number> {
    const file = this.#display.open(call.u32());
    try {
      return call.process.files.add(file); // which an exec does not close
    } catch (error) {
      await file.put();
      throw error;
    }
  }
}
