/* A device of two regions: one of memory of which two parts can be mapped, one of a type of its own that can not. */
import {
  allocDevice,
  copyArgsz,
  deviceInfo,
  type InfoCap,
  putDevice,
  type RegionInfo,
  RegionInfoCap,
  RegionInfoFlag,
  Request,
  regionInfoCapSparseMmap,
  regionInfoCapType,
  regionSparseMmapArea,
  registerEmulatedIommuDev,
  unregisterGroupDev,
  Vfio,
  VfioDevice,
  VfioError,
} from '@vfio/core';
import {
  Bus,
  Device,
  Driver,
  DriverData,
  Host,
  type IoctlCall,
  type Mapping,
  type MmapRequest,
  PAGE_SIZE,
  type PageRange,
  type UserBuffer,
  VirtualClock,
} from '@vfio/host';

/** Its name on its bus. */
export const SPARSE = 'sparse0';
/** Regions of it. */
export const SparseRegion = { MEMORY: 0, TYPED: 1 } as const;
export const memoryPages = 8;
/** What can be mapped of its memory. */
export const areas = [
  { offset: BigInt(PAGE_SIZE), size: BigInt(PAGE_SIZE) },
  { offset: BigInt(4 * PAGE_SIZE), size: BigInt(2 * PAGE_SIZE) },
] as const;
const stride = 2 ** 32;
const { READ, WRITE, MMAP } = RegionInfoFlag;

class SparseDevice extends VfioDevice {
  override readonly driverName = 'sparse';
  /** A piece of memory for each stretch that can or can not be mapped, by its first page. */
  readonly #pieces = new Map<number, PageRange>();

  override init(): void {
    for (const [first, pages] of [
      [0, 1],
      [1, 1],
      [2, 2],
      [4, 2],
      [6, 2],
    ] as const) {
      this.#pieces.set(first, this.vfio.host.memory.alloc(pages, 'a sparse device'));
    }
  }

  override release(): void {
    for (const piece of this.#pieces.values()) piece.put();
  }

  override read(buffer: UserBuffer, position: number): number {
    this.#each(position, buffer.bytes, (piece, offset, part) => piece.read(offset, part));
    return buffer.bytes.length;
  }

  override write(buffer: UserBuffer, position: number): number {
    this.#each(position, buffer.bytes, (piece, offset, part) => piece.write(offset, part));
    return buffer.bytes.length;
  }

  override mmap({ offset, length }: MmapRequest): Mapping {
    const range = this.#pieces.get(offset / PAGE_SIZE);
    const isArea = areas.some((area) => area.offset === BigInt(offset) && area.size === BigInt(length));
    if (!range || !isArea) throw new VfioError('EINVAL', `${length} bytes at ${offset}`);
    return { kind: 'memory', fault: (index) => ({ range, index }) };
  }

  override getRegionInfoCaps(info: RegionInfo, caps: InfoCap): void {
    info.offset = BigInt(info.index * stride);
    const header = (id: number) => ({ id, version: 1 });
    if (info.index === SparseRegion.MEMORY) {
      info.size = BigInt(memoryPages * PAGE_SIZE);
      info.flags = READ | WRITE | MMAP;
      const head = { header: header(RegionInfoCap.SPARSE_MMAP), nrAreas: areas.length };
      const list = regionSparseMmapArea.encodeArray(areas, caps.order);
      caps.addCapability(Buffer.concat([regionInfoCapSparseMmap.encode(head, caps.order), list]));
    } else if (info.index === SparseRegion.TYPED) {
      info.size = 16n;
      info.flags = READ;
      const type = { header: header(RegionInfoCap.TYPE), type: 0x8000_1af4, subtype: 7 };
      caps.addCapability(regionInfoCapType.encode(type, caps.order));
    } else throw new VfioError('EINVAL', `region ${info.index}`);
  }

  override async ioctl(call: IoctlCall): Promise<number> {
    if (call.request !== Request.DEVICE_GET_INFO) throw new VfioError('ENOTTY', 'unknown request');
    const bytes = copyArgsz(call, deviceInfo.endOf('numIrqs'));
    call.copyOut(
      deviceInfo.encode({ argsz: bytes.length, flags: 0, numRegions: 2, numIrqs: 0 }, call.order).subarray(0, 16),
    );
    return 0;
  }

  #each(position: number, bytes: Uint8Array, fn: (piece: PageRange, offset: number, part: Uint8Array) => void): void {
    for (const [first, piece] of this.#pieces) {
      const start = first * PAGE_SIZE;
      const from = Math.max(position, start);
      const to = Math.min(position + bytes.length, start + piece.length);
      if (from < to) fn(piece, from - start, bytes.subarray(from - position, to - position));
    }
  }
}

/** A host with one such device. */
export async function sparseHost(): Promise<Host> {
  const host = new Host({ checked: true, clock: new VirtualClock() });
  const vfio = new Vfio(host);
  const bus = new Bus({ name: 'sparse' });
  const data = new DriverData<SparseDevice>();
  host.modules.define({
    name: 'sparse',
    depends: ['vfio', 'vfio_iommu_type1'],
    init: async ({ module, undo }) => {
      const driver = new Driver({
        name: 'sparse',
        bus,
        module,
        probe: async (dev) => {
          const device = await allocDevice(vfio, SparseDevice, dev, undefined);
          await registerEmulatedIommuDev(device);
          data.set(dev, device);
        },
        remove: async (dev) => {
          await unregisterGroupDev(data.get(dev));
          await putDevice(data.get(dev));
        },
      });
      await host.devices.driverRegister(driver);
      undo.add(() => host.devices.driverUnregister(driver));
    },
  });
  await host.devices.busRegister(bus);
  host.atShutdown(() => host.devices.busUnregister(bus));
  const dev = new Device({ name: SPARSE, bus });
  host.devices.init(dev);
  await host.devices.add(dev);
  host.atShutdown(() => host.devices.unregister(dev));
  await host.modules.modprobe('sparse');
  return host;
}
