/**
 * The regions of the serial card and what an access to each of them reaches: config space, and one port for each I/O
 * BAR. Sizes are for show; an access beyond them finds the same registers or nothing, never an error.
 */
import {
  PCI_NUM_REGIONS,
  PciRegionIndex,
  type RegionInfo,
  RegionInfoFlag,
  regionIndexAt,
  regionOffsetAt,
  regionStart,
  VfioError,
} from '@vfio/core';
import type { AccessWidth } from '../common/access.js';
import type { SampleRegions } from '../common/device.js';
import { CONFIG_SPACE_SIZE } from '../common/layout.js';
import type { MttyConfigSpace } from './config.js';
import type { SerialPort } from './hw.js';

/** Bytes of an I/O BAR: the registers of a 16550. */
const IO_BAR_SIZE = 8n;
/** A port sees only the low 16 bits of an offset. */
const PORT_OFFSETS = 0x1_0000;

/**
 * The address space of the device file.
 *
 * @source samples/vfio-mdev/mtty.c mdev_access(), mtty_ioctl_get_region_info()
 */
export class MttyRegions implements SampleRegions {
  readonly #config: MttyConfigSpace;
  readonly #sockets: readonly SerialPort[];
  readonly #ports: number;

  /**
   * @param sockets - both ports of the card; the second one answers on BAR1 also where the card has one port only
   * @param ports - how many the card claims to have, 1 or 2
   */
  constructor(config: MttyConfigSpace, sockets: readonly SerialPort[], ports: number) {
    this.#config = config;
    this.#sockets = sockets;
    this.#ports = ports;
  }

  /**
   * Fills in flags, size and offset of `info.index`. Every region can be read and written, those of size 0 as well.
   *
   * @throws EINVAL - no such region
   */
  describe(info: RegionInfo): void {
    if (info.index >= PCI_NUM_REGIONS) throw new VfioError('EINVAL', `region ${info.index} of ${PCI_NUM_REGIONS}`);
    info.size = this.#sizeOf(info.index);
    info.offset = regionStart(info.index);
    info.flags = RegionInfoFlag.READ | RegionInfoFlag.WRITE;
  }

  readAccess(position: number, width: AccessWidth): number | undefined {
    const index = regionIndexAt(position);
    const offset = regionOffsetAt(position);
    if (index === PciRegionIndex.CONFIG) return this.#config.read(offset, width);
    // Differs: BARs without a port reach past the end of an array in C, and nothing here
    // one register, however wide the access is; the other bytes are undefined in C and 0 here
    return this.#sockets[index]?.read(offset % PORT_OFFSETS);
  }

  writeAccess(position: number, width: AccessWidth, value: number): boolean {
    const index = regionIndexAt(position);
    const offset = regionOffsetAt(position);
    if (index === PciRegionIndex.CONFIG) {
      this.#config.write(offset, width, value);
      return true;
    }
    const port = this.#sockets[index];
    port?.write(offset % PORT_OFFSETS, value & 0xff);
    return port !== undefined;
  }

  #sizeOf(index: number): bigint {
    if (index === PciRegionIndex.CONFIG) return BigInt(CONFIG_SPACE_SIZE);
    return index < this.#ports ? IO_BAR_SIZE : 0n;
  }
}
