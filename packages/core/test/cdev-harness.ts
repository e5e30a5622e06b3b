// Devices that can be bound to an iommufd, and the requests that do it.

import { O, PAGE_SIZE, type Process, Prot } from '@vfio/host';
import {
  allocDevice,
  type DeviceAttachIommufdPt,
  type DeviceBindIommufd,
  deviceAttachIommufdPt,
  deviceBindIommufd,
  deviceDetachIommufdPt,
  type Fields,
  type InitOf,
  type IommufdContext,
  IommufdRequest,
  iommuDestroy,
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
  iommuHwptAlloc,
  iommuIoasAlloc,
  iommuIoasMap,
  iommuIoasUnmap,
  putDevice,
  Request,
  registerEmulatedIommuDev,
  registerGroupDev,
  type Struct,
  unregisterGroupDev,
  type ValueOf,
  type VfioDevice,
} from '../src/index.js';
import { type Registered, type TestBench, TestDevice, type TestDeviceOptions } from './harness.js';

/** A device that does DMA by itself. */
export class PhysicalDevice extends TestDevice {
  override async bindIommufd(context: IommufdContext): Promise<number> {
    this.journal.push('bind');
    return await iommufdPhysicalBind(this, context);
  }
  override async unbindIommufd(): Promise<void> {
    this.journal.push('unbind');
    await iommufdPhysicalUnbind(this);
  }
  override attachIoas(ptId: number): Promise<number> {
    return iommufdPhysicalAttachIoas(this, ptId);
  }
  override detachIoas(): Promise<void> {
    return iommufdPhysicalDetachIoas(this);
  }
}

/** One that has PASIDs, too. */
export class PasidDevice extends PhysicalDevice {
  override pasidAttachIoas(pasid: number, ptId: number): Promise<number> {
    return iommufdPhysicalPasidAttachIoas(this, pasid, ptId);
  }
  override pasidDetachIoas(pasid: number): Promise<void> {
    return iommufdPhysicalPasidDetachIoas(this, pasid);
  }
}

/** A device that is emulated. */
export class EmulatedDevice extends TestDevice {
  override async bindIommufd(context: IommufdContext): Promise<number> {
    this.journal.push('bind');
    return await iommufdEmulatedBind(this, context);
  }
  override async unbindIommufd(): Promise<void> {
    this.journal.push('unbind');
    await iommufdEmulatedUnbind(this);
  }
  override attachIoas(ptId: number): Promise<number> {
    return iommufdEmulatedAttachIoas(this, ptId);
  }
  override detachIoas(): Promise<void> {
    return iommufdEmulatedDetachIoas(this);
  }
  override dmaUnmap(iova: bigint, length: bigint): void {
    this.journal.push(`unmap ${iova.toString(16)} ${length.toString(16)}`);
  }
}

/** Registers a device of that class on a parent of that name. */
export async function registerAs<D extends TestDevice>(
  on: TestBench,
  Type: new (options: TestDeviceOptions) => D,
  name: string,
  options: TestDeviceOptions & { group?: Parameters<TestBench['addParent']>[1] } = {},
): Promise<Registered<D>> {
  const emulated = Type.prototype instanceof EmulatedDevice || Type.prototype === EmulatedDevice.prototype;
  const parent = await on.addParent(name, emulated ? null : options.group);
  const device = await allocDevice(on.vfio, Type, parent, options);
  await (emulated ? registerEmulatedIommuDev(device) : registerGroupDev(device));
  return {
    device,
    parent,
    async [Symbol.asyncDispose]() {
      await unregisterGroupDev(device);
      await putDevice(device);
    },
  };
}

async function request<F extends Fields>(
  by: Process,
  fd: number,
  number: number,
  layout: Struct<F>,
  value: InitOf<F>,
): Promise<ValueOf<F>> {
  const bytes = layout.encode(value, by.byteOrder);
  await by.ioctl(fd, number, bytes);
  return layout.decode(bytes, by.byteOrder);
}

export const openCdev = (device: VfioDevice, by: Process): Promise<number> =>
  by.open(`/dev/vfio/devices/${device.name}`, O.RDWR);

export const openIommufd = (by: Process): Promise<number> => by.open('/dev/iommu', O.RDWR);

/** Binds; the id in the iommufd. */
export async function bind(
  by: Process,
  fd: number,
  iommufd: number,
  more: Partial<DeviceBindIommufd> = {},
): Promise<number> {
  const value = { argsz: 16, iommufd, ...more };
  return (await request(by, fd, Request.DEVICE_BIND_IOMMUFD, deviceBindIommufd, value)).outDevid;
}

/** Attaches; the page table that is in use. */
export async function attach(
  by: Process,
  fd: number,
  ptId: number,
  more: Partial<DeviceAttachIommufdPt> = {},
): Promise<number> {
  const value = { argsz: 12, ptId, ...more };
  return (await request(by, fd, Request.DEVICE_ATTACH_IOMMUFD_PT, deviceAttachIommufdPt, value)).ptId;
}

export async function detach(by: Process, fd: number, pasid?: number): Promise<void> {
  const value = pasid === undefined ? { argsz: 8 } : { argsz: 12, flags: 1, pasid };
  await request(by, fd, Request.DEVICE_DETACH_IOMMUFD_PT, deviceDetachIommufdPt, value);
}

export async function allocIoas(by: Process, iommufd: number): Promise<number> {
  return (await request(by, iommufd, IommufdRequest.IOAS_ALLOC, iommuIoasAlloc, { size: 12 })).outIoasId;
}

/** A page table of an IOAS, for a bound device. */
export async function allocHwpt(by: Process, iommufd: number, devId: number, ptId: number, flags = 0): Promise<number> {
  const value = { size: 48, flags, devId, ptId };
  return (await request(by, iommufd, IommufdRequest.HWPT_ALLOC, iommuHwptAlloc, value)).outHwptId;
}

export async function destroy(by: Process, iommufd: number, id: number): Promise<void> {
  await request(by, iommufd, IommufdRequest.DESTROY, iommuDestroy, { size: 8, id });
}

/** Maps fresh memory at a place, readable and writable; its address. */
export async function mapAt(by: Process, iommufd: number, ioasId: number, iova: bigint, pages = 1): Promise<bigint> {
  const length = pages * PAGE_SIZE;
  const userVa = by.mm.mmap({ length, prot: Prot.READ | Prot.WRITE });
  const value = { size: 40, flags: 7, ioasId, userVa, length: BigInt(length), iova };
  await request(by, iommufd, IommufdRequest.IOAS_MAP, iommuIoasMap, value);
  return userVa;
}

export async function unmapAt(by: Process, iommufd: number, ioasId: number, iova: bigint, pages = 1): Promise<void> {
  const value = { size: 24, ioasId, iova, length: BigInt(pages * PAGE_SIZE) };
  await request(by, iommufd, IommufdRequest.IOAS_UNMAP, iommuIoasUnmap, value);
}
