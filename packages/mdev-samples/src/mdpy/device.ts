/**
 * The framebuffer device as VFIO sees it. Memory comes with `init` and goes with `release`: no open and no close changes
 * what is shown, so there are no operations for them.
 */
import { GfxPlaneType, PCI_NUM_REGIONS, Request, VfioError } from '@vfio/core';
import type { IoctlCall, Mapping, MmapRequest, PhysicalMemory, Seams } from '@vfio/host';
import { SampleDevice } from '../common/device.js';
import { DRM_FORMAT_XRGB8888, ioctlQueryGfxPlane } from '../common/gfx-plane.js';
import { ioctlGetInfo, ioctlGetIrqInfo } from '../common/info.js';
import { MdpyConfigSpace } from './config.js';
import { Framebuffer, type Geometry } from './framebuffer.js';
import { DISPLAY_REGION, MdpyRegions } from './regions.js';

/** What a display is made of. */
export interface MdpyDeviceOptions {
  readonly geometry: Geometry;
  /** Where its video memory comes from. */
  readonly memory: PhysicalMemory;
  readonly seams: Seams;
}

/**
 * A display whose framebuffer is BAR0.
 *
 * @source samples/vfio-mdev/mdpy.c struct mdev_state, mdpy_dev_ops
 */
export class MdpyDevice extends SampleDevice {
  protected override readonly regions: MdpyRegions;
  readonly #options: MdpyDeviceOptions;
  readonly #framebuffer: Framebuffer;
  /** Interrupt indexes that the last GET_INFO reported: the bound for every later request, also after a reopen. */
  #numIrqs = 0;

  constructor(options: MdpyDeviceOptions) {
    super();
    this.#options = options;
    this.#framebuffer = new Framebuffer(options.geometry);
    this.regions = new MdpyRegions(new MdpyConfigSpace(options.geometry), this.#framebuffer);
  }

  /**
   * @throws ENOMEM - no memory for config space or framebuffer
   * @source samples/vfio-mdev/mdpy.c mdpy_init_dev()
   */
  override init(): void {
    const { geometry, memory, seams } = this.#options;
    seams.faults.check('mdpy_init_dev:vconfig');
    this.#framebuffer.alloc(memory);
    seams.log.info(`mdpy_init_dev: ${geometry.width}x${geometry.height}`, this.dev.logName());
  }

  /** Source: samples/vfio-mdev/mdpy.c mdpy_release_dev() */
  override release(): void {
    this.#framebuffer.free();
  }

  override mmap(request: MmapRequest): Mapping {
    return this.regions.mmap(request);
  }

  /** Source: samples/vfio-mdev/mdpy.c mdpy_ioctl() */
  override ioctl(call: IoctlCall): number {
    switch (call.request) {
      case Request.DEVICE_GET_INFO:
        return ioctlGetInfo(call, PCI_NUM_REGIONS, (info) => {
          this.#numIrqs = info.numIrqs;
        });
      case Request.DEVICE_GET_IRQ_INFO:
        return ioctlGetIrqInfo(call, this.#numIrqs, (info) => {
          info.count = 0; // the flags stay what the caller has there
        });
      case Request.DEVICE_SET_IRQS:
        throw new VfioError('EINVAL', 'a display has no interrupts');
      case Request.DEVICE_RESET:
        this.#framebuffer.paint();
        return 0;
      case Request.DEVICE_QUERY_GFX_PLANE:
        return this.#queryGfxPlane(call);
      default:
        throw new VfioError('ENOTTY', `unknown request 0x${call.request.toString(16)}`);
    }
  }

  /** The one picture is the answer for every plane, that of the cursor included. */
  #queryGfxPlane(call: IoctlCall): number {
    const { width, height, stride, memorySize } = this.#options.geometry;
    return ioctlQueryGfxPlane(call, GfxPlaneType.REGION, (plane) => {
      plane.drmFormat = DRM_FORMAT_XRGB8888;
      plane.width = width;
      plane.height = height;
      plane.stride = stride;
      plane.size = memorySize; // all of the memory, not only the rows
      plane.regionIndex = DISPLAY_REGION;
      plane.dmabufId = DISPLAY_REGION; // the same bytes
    });
  }
}
