/*
 * The OpRegion of an Intel display: a table that firmware keeps in memory, at an address that config space tells. A table of the
 * video BIOS that does not fit in there is elsewhere in memory; the user gets both, one behind the other, and is told so.
 */
import { RegionInfoFlag, RegionSubtype, RegionType, VfioError } from '@vfio/core';
import { type Host, Undo, type UserBuffer } from '@vfio/host';
import { readConfigDword } from '../bus/config.js';
import type { PciDev } from '../bus/pci-dev.js';
import type { PciCoreDevice } from './core-device.js';
import { failure } from './pci-failure.js';
import { rangeIntersectRange } from './range.js';
import { type DeviceRegionOps, registerDevRegion } from './regions/device-region.js';

/** Vendor id of Intel. */
export const INTEL = 0x8086;
/** Type of the regions of Intel's displays. */
export const INTEL_REGION = (RegionType.PCI_VENDOR_TYPE | INTEL) >>> 0;

/** Where config space has the address. */
const PCI_ADDR = 0xfc;
/** Bytes of the table itself. */
const OPREGION_SIZE = 8 * 1024;
const SIGNATURE = 'IntelGraphicsMem';
const At = { SIZE: 16, VERSION: 0x16, RVDA: 0x3ba, RVDS: 0x3c2 } as const;
const SIZE_UNIT = 1024;
const NOTHING = 0xffff_ffff;
/** The first version with another table; it gives an address, later ones a distance from the OpRegion. */
const VERSION_ABSOLUTE = 0x0200;
const VERSION_RELATIVE = 0x0201;

/** Physical memory that is mapped. */
interface Piece extends Disposable {
  readonly address: number;
  /** Bytes. */
  readonly length: number;
}

/**
 * Adds the region of the OpRegion, and makes its address in config space the user's.
 *
 * @throws ENODEV - there is none
 * @throws EINVAL - what is there is no OpRegion
 * @throws ENOMEM
 * @source drivers/vfio/pci/vfio_pci_igd.c vfio_pci_igd_opregion_init()
 */
export async function igdOpregionInit(device: PciCoreDevice): Promise<void> {
  const { pdev } = device;
  const { memory } = pdev.pciHost;
  const address = readConfigDword(pdev, PCI_ADDR);
  if (address === 0 || address === NOTHING) throw failure('ENODEV', pdev, 'it has no OpRegion', 'vfio_pci_igd_init');
  await using undo = new Undo();
  const table = memremap(pdev, address, OPREGION_SIZE);
  undo.add(() => table[Symbol.dispose]());
  const bytes = new Uint8Array(OPREGION_SIZE);
  memory.read(address, bytes);
  const header = new DataView(bytes.buffer);
  const signature = new TextDecoder('latin1').decode(bytes.subarray(0, SIGNATURE.length));
  const tableSize = header.getUint32(At.SIZE, true) * SIZE_UNIT;
  if (signature !== SIGNATURE || tableSize === 0) {
    throw failure('EINVAL', pdev, `no OpRegion at 0x${address.toString(16)}`, 'vfio_pci_igd_init');
  }
  const vbt = mapVbt(pdev, header, address);
  if (vbt) undo.add(() => vbt[Symbol.dispose]());
  const size = tableSize + (vbt?.length ?? 0);
  registerDevRegion(device, {
    type: INTEL_REGION,
    subtype: RegionSubtype.INTEL_IGD_OPREGION,
    ops: new OpRegion(pdev.pciHost, size, table, vbt),
    size,
    flags: RegionInfoFlag.READ,
  });
  undo.keep();
  // The last address that was looked at, which is the other table's if there is one.
  device.config?.virtualize(PCI_ADDR, (vbt ?? table).address);
}

/** The table of the video BIOS that is not in the OpRegion. Its address has 32 bits, whatever is said. */
function mapVbt(pdev: PciDev, header: DataView, address: number): Piece | undefined {
  const version = header.getUint16(At.VERSION, true);
  if (version < VERSION_ABSOLUTE) return undefined;
  const where = header.getBigUint64(At.RVDA, true);
  const length = header.getUint32(At.RVDS, true);
  if (where === 0n || length === 0) return undefined;
  const from = version === VERSION_ABSOLUTE ? 0n : BigInt(address);
  return memremap(pdev, Number(BigInt.asUintN(32, from + where)), length);
}

/** Source: kernel/iomem.c memremap(), memunmap() */
function memremap({ pciHost, name }: PciDev, address: number, length: number): Piece {
  pciHost.faults.check('memremap:mapping');
  const tracked = pciHost.tracker.track('mapping', () => `memory at 0x${address.toString(16)} of ${name}`);
  return { address, length, [Symbol.dispose]: () => tracked.release() };
}

/** The region. Source: drivers/vfio/pci/vfio_pci_igd.c vfio_pci_igd_regops */
class OpRegion implements DeviceRegionOps {
  readonly #host: Host;
  readonly #size: number;
  readonly #table: Piece;
  readonly #vbt: Piece | undefined;

  constructor(host: Host, size: number, table: Piece, vbt: Piece | undefined) {
    this.#host = host;
    this.#size = size;
    this.#table = table;
    this.#vbt = vbt;
  }

  /** Source: drivers/vfio/pci/vfio_pci_igd.c vfio_pci_igd_rw() */
  rw(device: PciCoreDevice, buffer: UserBuffer, offset: number, isWrite: boolean): number {
    const size = this.#size;
    if (offset >= size || isWrite) {
      throw new VfioError('EINVAL', isWrite ? 'it is read-only' : `it has ${size} bytes`, {
        subject: device.pdev.name,
      });
    }
    const count = Math.min(buffer.length, size - offset);
    if (count > buffer.bytes.length) {
      throw new VfioError('EFAULT', `only ${buffer.bytes.length} bytes of the buffer are accessible`);
    }
    const into = buffer.bytes.subarray(0, count);
    into.fill(0);
    this.#copy(this.#table, into, offset, 0);
    this.#patch(into, offset);
    if (this.#vbt) this.#copy(this.#vbt, into, offset, OPREGION_SIZE);
    return count;
  }

  release(): void {
    this.#vbt?.[Symbol.dispose]();
    this.#table[Symbol.dispose]();
  }

  /** Differs: behind both there are zeros, if the size that the OpRegion tells of itself is larger than it is. */
  #copy(piece: Piece, into: Uint8Array, offset: number, start: number): void {
    const part = rangeIntersectRange(offset, into.length, start, piece.length);
    if (!part) return;
    const { bufferOffset, count, registerOffset } = part;
    this.#host.memory.read(piece.address + registerOffset, into.subarray(bufferOffset, bufferOffset + count));
  }

  /** The other table is said to be right behind. */
  #patch(into: Uint8Array, offset: number): void {
    const where = new Uint8Array(8);
    if (this.#vbt) {
      new DataView(where.buffer).setUint16(0, OPREGION_SIZE, true);
      const version = new Uint8Array(2);
      this.#host.memory.read(this.#table.address + At.VERSION, version);
      if (version[0] === 0 && version[1] === VERSION_ABSOLUTE >> 8) version[0] = VERSION_RELATIVE & 0xff;
      overlay(into, offset, version, At.VERSION);
    }
    overlay(into, offset, where, At.RVDA);
  }
}

function overlay(into: Uint8Array, offset: number, field: Uint8Array, start: number): void {
  const part = rangeIntersectRange(offset, into.length, start, field.length);
  if (!part) return;
  into.set(field.subarray(part.registerOffset, part.registerOffset + part.count), part.bufferOffset);
}
