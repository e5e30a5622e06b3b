/** Regions of mdpy: config space, and video memory under two numbers. */
import { PCI_NUM_REGIONS, PciRegionIndex, type RegionInfo, RegionInfoFlag, VfioError } from '@vfio/core';
import type { Mapping, MmapRequest } from '@vfio/host';
import type { AccessWidth } from '../common/access.js';
import type { SampleRegions } from '../common/device.js';
import { CONFIG_SPACE_SIZE } from '../common/layout.js';
import { loadLittle, storeLittle } from '../common/little-endian.js';
import { describeRegion, type RegionEntry, within } from '../common/region-table.js';
import type { MdpyConfigSpace } from './config.js';
import type { Framebuffer } from './framebuffer.js';

/**
 * The region that a plane query names: BAR0 once more, past those that the device info counts.
 *
 * Source: samples/vfio-mdev/mdpy.c MDPY_DISPLAY_REGION
 */
export const DISPLAY_REGION = 16;
/** Where video memory is in the device file. */
const MEMORY_START = 0x1000;

const { READ, WRITE, MMAP } = RegionInfoFlag;
const config: RegionEntry = { index: PciRegionIndex.CONFIG, start: 0, size: CONFIG_SPACE_SIZE, flags: READ | WRITE };

/**
 * The address space of the device file.
 *
 * @source samples/vfio-mdev/mdpy.c mdev_access(), mdpy_mmap(), mdpy_ioctl_get_region_info()
 */
export class MdpyRegions implements SampleRegions {
  readonly #config: MdpyConfigSpace;
  readonly #framebuffer: Framebuffer;
  readonly #memory: RegionEntry;

  constructor(configSpace: MdpyConfigSpace, framebuffer: Framebuffer) {
    this.#config = configSpace;
    this.#framebuffer = framebuffer;
    const size = framebuffer.geometry.memorySize;
    this.#memory = { index: PciRegionIndex.BAR0, start: MEMORY_START, size, flags: READ | WRITE | MMAP };
  }

  describe(info: RegionInfo): void {
    describeRegion(info, [config, this.#memory, { ...this.#memory, index: DISPLAY_REGION }], PCI_NUM_REGIONS);
  }

  readAccess(position: number, width: AccessWidth): number | undefined {
    if (position < CONFIG_SPACE_SIZE) return this.#config.read(position, width);
    return within(this.#memory, position, width) ? loadLittle(this.#start, 0, width) : undefined;
  }

  writeAccess(position: number, width: AccessWidth, value: number): boolean {
    if (position < CONFIG_SPACE_SIZE) {
      this.#config.write(position, width, value);
      return true;
    }
    if (!within(this.#memory, position, width)) return false;
    storeLittle(this.#start, 0, width, value);
    return true;
  }

  /**
   * Maps video memory from its first byte on.
   *
   * @throws EINVAL - another offset, more than there is, or a private mapping
   */
  mmap({ offset, length, shared }: MmapRequest): Mapping {
    if (offset !== MEMORY_START) throw new VfioError('EINVAL', `nothing to map at 0x${offset.toString(16)}`);
    if (length > this.#memory.size) throw new VfioError('EINVAL', `${length} bytes of ${this.#memory.size}`);
    if (!shared) throw new VfioError('EINVAL', 'video memory can be mapped shared only');
    const { range } = this.#framebuffer;
    return { kind: 'memory', fault: (index) => ({ range, index }) };
  }

  /** What an access reaches: the first bytes, wherever in memory its position is. */
  get #start(): Uint8Array {
    return this.#framebuffer.range.span(0, 4);
  }
}
