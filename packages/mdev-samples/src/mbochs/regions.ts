/** Regions of mbochs: config space, registers, EDID and video memory, one after the other in the device file. */
import {
  type InfoCap,
  PCI_NUM_REGIONS,
  PciRegionIndex,
  type RegionInfo,
  RegionInfoCap,
  RegionInfoFlag,
  RegionSubtype,
  RegionType,
  regionInfoCapType,
  VfioError,
} from '@vfio/core';
import { type Mapping, type MmapRequest, PAGE_SIZE } from '@vfio/host';
import type { AccessWidth } from '../common/access.js';
import type { SampleRegions } from '../common/device.js';
import { CONFIG_SPACE_SIZE } from '../common/layout.js';
import { loadLittle, storeLittle } from '../common/little-endian.js';
import { describeRegion, type RegionEntry, within } from '../common/region-table.js';
import type { MbochsConfigSpace } from './config.js';
import { EDID_REGION_SIZE, type Edid } from './edid.js';
import type { VideoMemory } from './memory.js';
import { MMIO_SIZE, type Mmio } from './mmio.js';

/** The EDID region comes after those that every PCI function has. */
export const EDID_REGION = PCI_NUM_REGIONS;
/** Regions in all. */
export const NUM_REGIONS = PCI_NUM_REGIONS + 1;

const { READ, WRITE, MMAP, CAPS } = RegionInfoFlag;
const config: RegionEntry = { index: PciRegionIndex.CONFIG, start: 0, size: CONFIG_SPACE_SIZE, flags: READ | WRITE };
const mmio: RegionEntry = { index: PciRegionIndex.BAR2, start: 0x1000, size: MMIO_SIZE, flags: READ | WRITE };
const edid: RegionEntry = { index: EDID_REGION, start: 0x2000, size: EDID_REGION_SIZE, flags: READ | WRITE | CAPS };
const MEMORY_START = 0x3000;

/** What lies behind the regions. */
export interface MbochsParts {
  readonly config: MbochsConfigSpace;
  readonly mmio: Mmio;
  readonly edid: Edid;
  readonly memory: VideoMemory;
}

/**
 * The address space of the device file.
 *
 * @source samples/vfio-mdev/mbochs.c mdev_access(), mbochs_mmap(), mbochs_ioctl_get_region_info()
 */
export class MbochsRegions implements SampleRegions {
  readonly #parts: MbochsParts;
  readonly #memory: RegionEntry;

  constructor(parts: MbochsParts) {
    this.#parts = parts;
    const { size } = parts.memory;
    this.#memory = { index: PciRegionIndex.BAR0, start: MEMORY_START, size, flags: READ | WRITE | MMAP };
  }

  describe(info: RegionInfo, caps: InfoCap): void {
    const region = describeRegion(info, [config, mmio, edid, this.#memory], NUM_REGIONS);
    if (region !== edid) return;
    const header = { id: RegionInfoCap.TYPE, version: 1 };
    const type = { header, type: RegionType.GFX, subtype: RegionSubtype.GFX_EDID };
    caps.addCapability(regionInfoCapType.encode(type, caps.order));
  }

  readAccess(position: number, width: AccessWidth): number | undefined {
    const parts = this.#parts;
    if (position < CONFIG_SPACE_SIZE) return parts.config.read(position, width);
    if (within(mmio, position, width)) return parts.mmio.read(position - mmio.start, width);
    if (within(edid, position, width)) return parts.edid.read(position - edid.start, width);
    const page = this.#pageAt(position, width);
    return page && loadLittle(page, position % PAGE_SIZE, width);
  }

  writeAccess(position: number, width: AccessWidth, value: number): boolean {
    const parts = this.#parts;
    if (position < CONFIG_SPACE_SIZE) parts.config.write(position, width, value);
    else if (within(mmio, position, width)) parts.mmio.write(position - mmio.start, width, value);
    else if (within(edid, position, width)) parts.edid.write(position - edid.start, width, value);
    else {
      const page = this.#pageAt(position, width);
      if (!page) return false;
      storeLittle(page, position % PAGE_SIZE, width, value);
    }
    return true;
  }

  /**
   * Maps video memory from its first byte on; its pages come when they are touched.
   *
   * @throws EINVAL - another offset, more than there is, or a private mapping
   */
  mmap({ offset, length, shared }: MmapRequest): Mapping {
    const { memory } = this.#parts;
    if (offset !== MEMORY_START) throw new VfioError('EINVAL', `nothing to map at 0x${offset.toString(16)}`);
    if (length > memory.size) throw new VfioError('EINVAL', `${length} bytes of ${memory.size}`);
    if (!shared) throw new VfioError('EINVAL', 'video memory can be mapped shared only');
    const fault = (index: number) => {
      const range = memory.page(index);
      return range ? { range, index: 0 } : 'SIGBUS';
    };
    return { kind: 'memory', fault };
  }

  /**
   * The page behind an access to video memory, which lies two pages further on than the position says: the start of the
   * registers is subtracted instead of that of memory. The last two pages of the region reach nothing.
   */
  #pageAt(position: number, width: AccessWidth): Uint8Array | undefined {
    if (!within(this.#memory, position, width)) return undefined;
    // Differs: C goes on past the end of its array of pages
    const index = Math.floor((position - mmio.start) / PAGE_SIZE);
    return this.#parts.memory.page(index)?.span(0, PAGE_SIZE);
  }
}
