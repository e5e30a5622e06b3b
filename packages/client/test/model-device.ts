// A device with everything that a program can ask of one, small enough to be read at once: regions with capabilities and
// mappable areas, interrupts, migration, a log of its writes, and requests that it only writes down.

import {
  copyArgsz,
  DeviceInfoCap,
  DeviceInfoFlag,
  deviceInfo,
  deviceInfoCapPciAtomicComp,
  dmaRw,
  Feature,
  type FeatureCall,
  InfoCap,
  type IommufdContext,
  type IovaRange,
  iommufdEmulatedAttachIoas,
  iommufdEmulatedBind,
  iommufdEmulatedDetachIoas,
  iommufdEmulatedUnbind,
  iommufdPhysicalAttachIoas,
  iommufdPhysicalBind,
  iommufdPhysicalDetachIoas,
  iommufdPhysicalPasidAttachIoas,
  iommufdPhysicalPasidDetachIoas,
  iommufdPhysicalUnbind,
  irqInfo,
  irqSet,
  type LogOps,
  MigrationFlag,
  PciAtomicComp,
  pciDependentDevice,
  pciHotResetInfo,
  pinPages,
  type RegionInfo,
  RegionInfoCap,
  RegionInfoFlag,
  RegionType,
  Request,
  regionInfoCapSparseMmap,
  regionInfoCapType,
  regionSparseMmapArea,
  setIrqsValidateAndPrepare,
  unpinPages,
  VfioDevice,
  VfioError,
  writeInfo,
} from '@vfio/core';
import {
  type Host,
  type IoctlCall,
  type Mapping,
  type MmapRequest,
  PAGE_SIZE,
  type PageRange,
  type UserBuffer,
} from '@vfio/host';
import { ModelIrqs, modelIrqInfo } from './model-irqs.js';
import { ModelMigration } from './model-migration.js';

/** Regions of the model, by what they are. */
export const ModelRegion = { REGISTERS: 0, ABSENT: 1, ROM: 2, UNKNOWN: 3 } as const;
/** One more than its highest region index, and its highest interrupt index. */
export const modelRegions = 4;
export const modelIrqs = 3;

const registerPages = 3;
export const registersSize = registerPages * PAGE_SIZE;
export const romSize = 100;
/** The middle page of the registers can not be mapped. */
export const mappableAreas = [
  { offset: 0n, size: BigInt(PAGE_SIZE) },
  { offset: BigInt(2 * PAGE_SIZE), size: BigInt(PAGE_SIZE) },
] as const;
/** Type of the ROM: a region of PCI vendor 0x1af4. */
export const romType = { type: (RegionType.PCI_VENDOR_TYPE | 0x1af4) >>> 0, subtype: 7 } as const;
const regionStride = 2 ** 40;
const logPage = BigInt(PAGE_SIZE);

/** What a model is made with. */
export interface ModelOptions {
  /** MigrationFlag bits; 0 for a device that can not migrate. */
  readonly migration: number;
  /** Interrupt vectors that there really are. */
  readonly vectors: number;
  /** It has no IOMMU, and reaches memory by pinning. */
  readonly emulated: boolean;
  /** Functions that its hot reset would reset. */
  readonly functions: number;
}

export const modelDefaults: ModelOptions = {
  migration: MigrationFlag.STOP_COPY | MigrationFlag.P2P | MigrationFlag.PRE_COPY,
  vectors: 4,
  emulated: false,
  functions: 3,
};

/** The device. */
export class ModelDevice extends VfioDevice {
  override readonly driverName = 'model';
  readonly options: ModelOptions;
  readonly irqs = new ModelIrqs(this);
  /** Requests that were only written down, with their bytes. */
  readonly requests: { readonly request: number; readonly bytes: Uint8Array }[] = [];
  /** UUID that was set as feature PCI_VF_TOKEN. */
  token: Uint8Array | undefined;
  /** Asked for so often to leave. */
  readonly asked: number[] = [];
  #migration: ModelMigration | undefined;
  #registers: PageRange | undefined;
  readonly #rom = Uint8Array.from({ length: romSize }, (_, i) => i);
  #logged: IovaRange[] | undefined;
  readonly #written = new Set<bigint>();
  readonly #pinned = new Map<bigint, number>();

  constructor(options: ModelOptions) {
    super();
    this.options = options;
  }

  get host(): Host {
    return this.vfio.host;
  }

  /** Whether it is in a state of pre-copy. */
  get copiesAhead(): boolean {
    return this.#migration?.copiesAhead ?? false;
  }

  override init(): void {
    this.#registers = this.host.memory.alloc(registerPages, 'registers of the model');
    this.migrationFlags = this.options.migration;
    if (this.options.migration) {
      this.#migration = new ModelMigration(this);
      this.migOps = this.#migration;
    }
    this.logOps = this.#logOps;
  }

  override release(): void {
    this.#registers?.put();
  }

  override async closeDevice(): Promise<void> {
    await this.irqs.disable();
    await this.#migration?.endFile();
    this.#logged = undefined;
    for (const [iova, count] of this.#pinned) for (let i = 0; i < count; i++) await unpinPages(this, iova, 1);
    this.#pinned.clear();
  }

  override request(count: number): void {
    this.asked.push(count);
  }

  /** Bytes of the register region. */
  registers(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#registers?.read(offset, bytes);
    return bytes;
  }

  setRegisters(offset: number, bytes: Uint8Array): void {
    this.#registers?.write(offset, bytes);
  }

  /** The device writes to memory by itself, and logs it. */
  async dmaWrite(iova: bigint, bytes: Uint8Array): Promise<void> {
    if (this.options.emulated) await dmaRw(this, iova, bytes, true);
    else await this.host.iommu.dma(this.dev).write(iova, bytes);
    if (this.#logged?.some((range) => iova >= range.iova && iova < range.iova + range.length)) {
      this.#written.add(iova & -logPage);
    }
  }

  /** Holds a page of the user's memory until it goes away or the device is closed. */
  async pin(iova: bigint, prot: number): Promise<void> {
    await pinPages(this, iova, 1, prot);
    this.#pinned.set(iova, (this.#pinned.get(iova) ?? 0) + 1);
  }

  override async dmaUnmap(iova: bigint, length: bigint): Promise<void> {
    for (const [pinned, count] of [...this.#pinned]) {
      if (pinned < iova || pinned >= iova + length) continue;
      for (let i = 0; i < count; i++) await unpinPages(this, pinned, 1);
      this.#pinned.delete(pinned);
    }
  }

  override bindIommufd(context: IommufdContext): Promise<number> {
    return this.options.emulated ? iommufdEmulatedBind(this, context) : iommufdPhysicalBind(this, context);
  }

  override unbindIommufd(): Promise<void> {
    return this.options.emulated ? iommufdEmulatedUnbind(this) : iommufdPhysicalUnbind(this);
  }

  override attachIoas(ptId: number): Promise<number> {
    return this.options.emulated ? iommufdEmulatedAttachIoas(this, ptId) : iommufdPhysicalAttachIoas(this, ptId);
  }

  override detachIoas(): Promise<void> {
    return this.options.emulated ? iommufdEmulatedDetachIoas(this) : iommufdPhysicalDetachIoas(this);
  }

  override pasidAttachIoas(pasid: number, ptId: number): Promise<number> {
    return iommufdPhysicalPasidAttachIoas(this, pasid, ptId);
  }

  override pasidDetachIoas(pasid: number): Promise<void> {
    return iommufdPhysicalPasidDetachIoas(this, pasid);
  }

  override read(buffer: UserBuffer, position: number): number {
    const { bytes, offset } = this.#reached(position, buffer.length);
    if (bytes.length > buffer.bytes.length) throw new VfioError('EFAULT', 'the buffer ends early');
    buffer.bytes.set(bytes);
    return offset < 0 ? 0 : bytes.length;
  }

  override write(buffer: UserBuffer, position: number): number {
    const { index, bytes, offset } = this.#reached(position, buffer.length);
    if (index !== ModelRegion.REGISTERS) throw new VfioError('EINVAL', `region ${index} can not be written`);
    if (bytes.length > buffer.bytes.length) throw new VfioError('EFAULT', 'the buffer ends early');
    this.setRegisters(offset, buffer.bytes.subarray(0, bytes.length));
    return bytes.length;
  }

  /** What an access reaches, cut at the end of its region. */
  #reached(position: number, length: number): { index: number; offset: number; bytes: Uint8Array } {
    const index = Math.floor(position / regionStride);
    const offset = position - index * regionStride;
    const size = index === ModelRegion.REGISTERS ? registersSize : index === ModelRegion.ROM ? romSize : 0;
    if (size === 0) throw new VfioError('EINVAL', `there is no region ${index}`);
    if (length === 0) return { index, offset, bytes: new Uint8Array(0) };
    if (offset >= size) throw new VfioError('EINVAL', `${offset} is past the end of region ${index}`);
    const count = Math.min(length, size - offset);
    const bytes = index === ModelRegion.ROM ? this.#rom.slice(offset, offset + count) : this.registers(offset, count);
    return { index, offset, bytes };
  }

  override mmap(request: MmapRequest): Mapping {
    const { offset, length } = request;
    const range = this.#registers;
    const inside = mappableAreas.some((area) => offset >= area.offset && offset + length <= area.offset + area.size);
    if (!range || !inside) throw new VfioError('EINVAL', `${length} bytes at ${offset} can not be mapped`);
    return { kind: 'memory', fault: (page) => ({ range, index: offset / PAGE_SIZE + page }) };
  }

  override getRegionInfoCaps(info: RegionInfo, caps: InfoCap): void {
    const { READ, WRITE, MMAP } = RegionInfoFlag;
    info.offset = BigInt(info.index * regionStride);
    info.size = 0n;
    info.flags = 0;
    switch (info.index) {
      case ModelRegion.REGISTERS: {
        info.size = BigInt(registersSize);
        info.flags = READ | WRITE | MMAP;
        const areas = mappableAreas.map((area) => regionSparseMmapArea.encode(area, caps.order));
        const header = { id: RegionInfoCap.SPARSE_MMAP, version: 1, next: 0 };
        const head = { header, nrAreas: areas.length };
        caps.addCapability(Buffer.concat([regionInfoCapSparseMmap.encode(head, caps.order), ...areas]));
        caps.add(8, RegionInfoCap.MSIX_MAPPABLE, 1);
        return;
      }
      case ModelRegion.ROM: {
        info.size = BigInt(romSize);
        info.flags = READ;
        const header = { id: RegionInfoCap.TYPE, version: 1, next: 0 };
        caps.addCapability(regionInfoCapType.encode({ header, ...romType }, caps.order));
        return;
      }
      case ModelRegion.ABSENT:
        return;
      default:
        throw new VfioError('EINVAL', `region ${info.index}`);
    }
  }

  override async ioctl(call: IoctlCall): Promise<number> {
    switch (call.request) {
      case Request.DEVICE_GET_INFO:
        return this.#getInfo(call);
      case Request.DEVICE_GET_IRQ_INFO: {
        const info = irqInfo.decode(copyArgsz(call, irqInfo.size), call.order);
        modelIrqInfo(info);
        call.copyOut(irqInfo.encode(info, call.order));
        return 0;
      }
      case Request.DEVICE_SET_IRQS: {
        const set = irqSet.decode(call.copyIn(irqSet.size), call.order);
        const counts = [1, 4];
        const size = setIrqsValidateAndPrepare(set, counts[set.index] ?? 0, counts.length);
        return await this.irqs.set(set, size > 0 ? call.copyIn(size, irqSet.size) : new Uint8Array(0), call);
      }
      case Request.DEVICE_RESET:
        await this.#migration?.reset();
        this.setRegisters(0, new Uint8Array(registersSize));
        return 0;
      case Request.DEVICE_GET_PCI_HOT_RESET_INFO:
        return this.#hotResetInfo(call);
      case Request.DEVICE_PCI_HOT_RESET:
        return this.#note(call, copyArgsz(call, 12).length + 4 * call.u32(8));
      case Request.DEVICE_QUERY_GFX_PLANE:
        call.copyOut(Uint8Array.of(0x58, 0x52, 0x32, 0x34), 12);
        return this.#note(call, 64);
      case Request.DEVICE_GET_GFX_DMABUF:
        this.#note(call, 4);
        return call.u32() + 100;
      case Request.DEVICE_IOEVENTFD:
        return this.#note(call, 32);
      default:
        throw new VfioError('ENOTTY', `unknown request 0x${call.request.toString(16)}`);
    }
  }

  override deviceFeature(call: FeatureCall): number {
    if (call.feature !== Feature.PCI_VF_TOKEN) throw call.error('ENOTTY', `no feature ${call.feature}`);
    if (call.check('set', 16)) this.token = call.copyIn(16);
    return 0;
  }

  #getInfo(call: IoctlCall): number {
    const least = deviceInfo.endOf('numIrqs');
    const { argsz } = deviceInfo.decode(copyArgsz(call, least), call.order);
    const info = deviceInfo.decode(new Uint8Array(deviceInfo.size), call.order);
    info.argsz = argsz;
    info.flags = DeviceInfoFlag.PCI | DeviceInfoFlag.RESET;
    info.numRegions = modelRegions;
    info.numIrqs = modelIrqs;
    const caps = new InfoCap(this.host, call.order);
    const header = { id: DeviceInfoCap.PCI_ATOMIC_COMP, version: 1, next: 0 };
    caps.addCapability(deviceInfoCapPciAtomicComp.encode({ header, flags: PciAtomicComp.COMP64 }, call.order));
    writeInfo(call, deviceInfo, info, caps, DeviceInfoFlag.CAPS);
    return 0;
  }

  /** The functions of slot 4, each in a group of its own. */
  #hotResetInfo(call: IoctlCall): number {
    const { functions } = this.options;
    const { argsz } = pciHotResetInfo.decode(copyArgsz(call, pciHotResetInfo.size), call.order);
    const room = Math.floor((argsz - pciHotResetInfo.size) / pciDependentDevice.size);
    call.copyOut(pciHotResetInfo.encode({ argsz, flags: 0, count: functions }, call.order));
    if (room < functions) throw new VfioError('ENOSPC', `${functions} functions`);
    for (let i = 0; i < functions; i++) {
      const entry = pciDependentDevice.encode(
        { groupId: 30 + i, segment: 0x10, bus: 0xa, devfn: (4 << 3) | i },
        call.order,
      );
      call.copyOut(entry, pciHotResetInfo.size + i * pciDependentDevice.size);
    }
    return 0;
  }

  #note(call: IoctlCall, length: number): number {
    this.requests.push({ request: call.request, bytes: call.copyIn(length) });
    return 0;
  }

  readonly #logOps: LogOps = {
    start: (ranges, pageSize) => {
      if (this.#logged) throw new VfioError('EBUSY', 'the device logs already');
      this.#written.clear();
      this.#logged = [...ranges];
      return pageSize < logPage ? logPage : pageSize;
    },
    stop: () => {
      this.#logged = undefined;
    },
    readAndClear: (iova, length, bitmap) => {
      if (!this.#logged) throw new VfioError('EINVAL', 'the device does not log');
      for (const page of [...this.#written]) {
        if (page < iova || page >= iova + length) continue;
        bitmap.set(page, logPage);
        this.#written.delete(page);
      }
    },
  };
}
