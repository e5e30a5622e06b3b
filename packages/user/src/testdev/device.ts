// The test device as VFIO sees it.

import {
  copyArgsz,
  DeviceInfoFlag,
  deviceInfo,
  type InfoCap,
  type IommufdContext,
  iommufdPhysicalAttachIoas,
  iommufdPhysicalBind,
  iommufdPhysicalDetachIoas,
  iommufdPhysicalUnbind,
  irqInfo,
  irqSet,
  PCI_NUM_IRQS,
  PCI_NUM_REGIONS,
  PciRegionIndex,
  type RegionInfo,
  RegionInfoCap,
  RegionInfoFlag,
  Request,
  regionIndexAt,
  regionInfoCapSparseMmap,
  regionOffsetAt,
  regionSparseMmapArea,
  regionStart,
  setIrqsValidateAndPrepare,
  VfioDevice,
  VfioError,
} from '@vfio/core';
import type { IoctlCall, Mapping, MmapRequest, UserBuffer } from '@vfio/host';
import { type Doorbell, type SocketClient, type SocketDevice, socketDevice } from '../server/socket-device.js';
import { TestConfigSpace } from './config-space.js';
import { Copies } from './copies.js';
import { TestIrqs, testIrqInfo } from './irqs.js';
import { BELL_MATCH, irqCounts, mappableAreas, Reg, regionSizes } from './layout.js';
import { MsixMemory, PagedMemory, PlainMemory, type TestRegion } from './memory.js';
import { TestRegisters } from './registers.js';

const { BAR0, BAR1, BAR2, BAR4, CONFIG } = PciRegionIndex;
const { READ, WRITE, MMAP } = RegionInfoFlag;
/** The only wire: both doorbells are on it. */
const WIRE = 0;
const bells: readonly Doorbell[] = [
  { offset: Reg.BELL, size: 4, wire: WIRE },
  { offset: Reg.MATCHING_BELL, size: 4, datamatch: BELL_MATCH, wire: WIRE },
];

/** What exists from `init` to `release`. */
interface Parts {
  readonly plain: PlainMemory;
  readonly paged: PagedMemory;
  readonly registers: TestRegisters;
  readonly config: TestConfigSpace;
  readonly copies: Copies;
  readonly regions: ReadonlyMap<number, TestRegion>;
}

/**
 * A PCI function for tests of clients: memory that is mapped and memory that is not, DMA with and without messages,
 * interrupts, doorbells. It keeps its state from one user to the next.
 */
export class TestDevice extends VfioDevice implements SocketDevice {
  override readonly driverName = 'testdev';
  readonly [socketDevice] = true;
  readonly #irqs = new TestIrqs(() => this.vfio.virqfds);
  #parts: Parts | undefined;

  /** @throws ENOMEM - no memory for region 1 */
  override init(): void {
    const { host } = this.vfio;
    host.faults.check('testdev_init:memory');
    const sizeOf = (index: number) => regionSizes[index] ?? 0;
    const plain = new PlainMemory(sizeOf(BAR0));
    const paged = new PagedMemory(host.memory);
    const config = new TestConfigSpace();
    const copies = new Copies(host.iommu.dma(this.dev), plain, (errno) => registers.complete(errno));
    const registers = new TestRegisters({
      copy: (request) => copies.begin(request),
      signal: (vector) => this.#irqs.raise(vector),
      get isBusy() {
        return copies.isBusy;
      },
      get dmaRegions() {
        return copies.client?.dmaRegions ?? 0;
      },
    });
    const regions = new Map<number, TestRegion>([
      [BAR0, plain],
      [BAR1, paged],
      [BAR2, registers],
      [BAR4, new MsixMemory(sizeOf(BAR4), () => this.#irqs.pending)],
      [CONFIG, config],
    ]);
    this.#parts = { plain, paged, registers, config, copies, regions };
  }

  override release(): void {
    this.#parts?.paged.free();
  }

  /** What belongs to the user goes with it; memory and registers stay. */
  override async closeDevice(): Promise<void> {
    const { copies, registers } = this.#made;
    if (copies.isBusy) registers.complete(0);
    copies.cancel();
    await this.#irqs.disableAll();
  }

  override bindIommufd(context: IommufdContext): Promise<number> {
    return iommufdPhysicalBind(this, context);
  }

  override unbindIommufd(): Promise<void> {
    return iommufdPhysicalUnbind(this);
  }

  override attachIoas(ptId: number): Promise<number> {
    return iommufdPhysicalAttachIoas(this, ptId);
  }

  override detachIoas(): Promise<void> {
    return iommufdPhysicalDetachIoas(this);
  }

  override read(buffer: UserBuffer, position: number): number {
    const { bytes } = buffer;
    this.#at(position, bytes.length).read(regionOffsetAt(position), bytes);
    return bytes.length;
  }

  override write(buffer: UserBuffer, position: number): number {
    const { bytes } = buffer;
    this.#at(position, bytes.length).write(regionOffsetAt(position), bytes);
    return bytes.length;
  }

  /**
   * Maps one of the areas of region 1, or its beginning.
   *
   * @throws EINVAL - anything else, or a private mapping
   */
  override mmap({ offset, length, shared }: MmapRequest): Mapping {
    const start = regionOffsetAt(offset);
    const range = regionIndexAt(offset) === BAR1 ? this.#made.paged.at(start) : undefined;
    const isArea = mappableAreas.some((area) => area.offset === start && length <= area.size);
    if (!range || !isArea || !shared) throw new VfioError('EINVAL', `nothing to map at 0x${offset.toString(16)}`);
    return { kind: 'memory', fault: (index) => ({ range, index }) };
  }

  override getRegionInfoCaps(info: RegionInfo, caps: InfoCap): void {
    const size = regionSizes[info.index];
    if (size === undefined) throw new VfioError('EINVAL', `region ${info.index} of ${regionSizes.length}`);
    info.offset = regionStart(info.index);
    info.size = BigInt(size);
    info.flags = size === 0 ? 0 : READ | WRITE;
    if (info.index !== BAR1) return;
    info.flags |= MMAP;
    const header = { id: RegionInfoCap.SPARSE_MMAP, version: 1 };
    const head = regionInfoCapSparseMmap.encode({ header, nrAreas: mappableAreas.length }, caps.order);
    const areas = mappableAreas.map((area) => ({ offset: BigInt(area.offset), size: BigInt(area.size) }));
    caps.addCapability(Buffer.concat([head, regionSparseMmapArea.encodeArray(areas, caps.order)]));
  }

  override async ioctl(call: IoctlCall): Promise<number> {
    switch (call.request) {
      case Request.DEVICE_GET_INFO:
        return ioctlGetInfo(call);
      case Request.DEVICE_GET_IRQ_INFO:
        return ioctlGetIrqInfo(call);
      case Request.DEVICE_SET_IRQS:
        return await this.#setIrqs(call);
      case Request.DEVICE_RESET:
        this.#reset();
        return 0;
      default:
        throw new VfioError('ENOTTY', `unknown request 0x${call.request.toString(16)}`);
    }
  }

  setClient(client: SocketClient | undefined): void {
    this.#made.copies.client = client;
  }

  doorbells(region: number): readonly Doorbell[] {
    return region === BAR2 ? bells : [];
  }

  /** A write to where the doorbells are has no effect, and so has this. */
  ring(): void {}

  get #made(): Parts {
    if (!this.#parts) throw new TypeError('the device has not been through allocDevice');
    return this.#parts;
  }

  /** @throws EINVAL - not within a region */
  #at(position: number, length: number): TestRegion {
    const region = this.#made.regions.get(regionIndexAt(position));
    if (region === undefined || regionOffsetAt(position) + length > region.size) {
      throw new VfioError('EINVAL', `${length} bytes at 0x${position.toString(16)} are in no region`);
    }
    return region;
  }

  /** Mappings and eventfds stay; what a copy still brings is lost. */
  #reset(): void {
    const { plain, paged, registers, config, copies } = this.#made;
    copies.cancel();
    plain.clear();
    paged.clear();
    config.reset();
    registers.reset();
    this.#irqs.reset();
  }

  async #setIrqs(call: IoctlCall): Promise<number> {
    const set = irqSet.decode(call.copyIn(irqSet.size), call.order);
    const size = setIrqsValidateAndPrepare(set, irqCounts[set.index] ?? 0, PCI_NUM_IRQS);
    const data = size > 0 ? call.copyIn(size, irqSet.size) : new Uint8Array(0);
    await this.#irqs.set(set, data, call);
    return 0;
  }
}

function ioctlGetInfo(call: IoctlCall): number {
  const size = deviceInfo.endOf('numIrqs');
  const info = deviceInfo.decode(copyArgsz(call, size), call.order);
  info.flags = DeviceInfoFlag.RESET | DeviceInfoFlag.PCI;
  info.numRegions = PCI_NUM_REGIONS;
  info.numIrqs = PCI_NUM_IRQS;
  call.copyOut(deviceInfo.encode(info, call.order).subarray(0, size));
  return 0;
}

function ioctlGetIrqInfo(call: IoctlCall): number {
  const info = irqInfo.decode(copyArgsz(call, irqInfo.size), call.order);
  testIrqInfo(info);
  call.copyOut(irqInfo.encode(info, call.order));
  return 0;
}
