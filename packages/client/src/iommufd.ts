// An iommufd: address spaces, page tables, and the devices that are bound to it.

import {
  type Fields,
  type InitOf,
  IommufdRequest,
  IommuHwInfoType,
  IommuHwptDirtyTrackingFlag,
  IommuHwptGetDirtyBitmapFlag,
  IommuOptionId,
  IommuOptionOp,
  IommuVfioIoasOp,
  iommuDestroy,
  iommuHwInfo,
  iommuHwptAlloc,
  iommuHwptGetDirtyBitmap,
  iommuHwptSetDirtyTracking,
  iommuIoasAlloc,
  iommuIoasChangeProcess,
  iommuOption,
  iommuVfioIoas,
  type Struct,
  type ValueOf,
} from '@vfio/core';
import { Descriptor, named } from './call.js';
import { Ioas } from './ioas.js';
import { bitmapBytes, bitmapOf, Scratch } from './scratch.js';
import type { Transport } from './transport.js';

/** An iommufd that a device is bound to. */
export interface Binding {
  readonly iommufd: Iommufd;
  /** The device's id in it. */
  readonly id: number;
  /** The address space that it is attached to. */
  readonly ioas: Ioas | undefined;
}

/** What the hardware behind a bound device can do. */
export interface HardwareInfo {
  /** IommuHwInfoType of the data. */
  readonly type: number;
  /** The struct that belongs to the type; empty for NONE. */
  readonly data: Uint8Array;
  /** IommuHwCap bits. */
  readonly capabilities: bigint;
  /** How many PASIDs the device has. */
  readonly maxPasids: number;
}

/** An open iommufd. Source: include/uapi/linux/iommufd.h */
export class Iommufd extends Descriptor {
  /** Opens a new one. */
  static async open(transport: Transport): Promise<Iommufd> {
    const path = '/dev/iommu';
    return new Iommufd(transport, await named('open', path, () => transport.open(path)), path);
  }

  /**
   * Makes a request with a structure.
   *
   * @returns the structure after the call
   * @throws VfioError - with the kernel's errno
   */
  async request<F extends Fields>(
    name: keyof typeof IommufdRequest,
    layout: Struct<F>,
    value: InitOf<F>,
  ): Promise<ValueOf<F>> {
    const order = this.transport.byteOrder;
    const bytes = layout.encode(value, order);
    await this.ioctl(`IOMMU_${name}`, IommufdRequest[name], bytes);
    return layout.decode(bytes, order);
  }

  /** A new, empty address space. */
  async allocIoas(): Promise<Ioas> {
    const { outIoasId } = await this.request('IOAS_ALLOC', iommuIoasAlloc, { size: iommuIoasAlloc.size });
    return new Ioas(this, outIoasId);
  }

  /** Destroys an object that nothing uses any more. */
  async destroy(id: number): Promise<void> {
    await this.request('DESTROY', iommuDestroy, { size: iommuDestroy.size, id });
  }

  /**
   * A page table for a device, filled with what is mapped in an IOAS.
   *
   * @param deviceId - what the device was bound as
   * @param flags - IommuHwptAllocFlag bits
   * @returns its id
   */
  async allocHwpt(deviceId: number, ioas: Ioas, flags = 0): Promise<number> {
    const value = { size: iommuHwptAlloc.size, flags, devId: deviceId, ptId: ioas.id };
    return (await this.request('HWPT_ALLOC', iommuHwptAlloc, value)).outHwptId;
  }

  /** Starts or ends noting what devices write through a page table that was made for it (DIRTY_TRACKING). */
  async setDirtyTracking(hwptId: number, on: boolean): Promise<void> {
    const flags = on ? IommuHwptDirtyTrackingFlag.ENABLE : 0;
    const value = { size: iommuHwptSetDirtyTracking.size, flags, hwptId };
    await this.request('HWPT_SET_DIRTY_TRACKING', iommuHwptSetDirtyTracking, value);
  }

  /**
   * Reports the pages of a range that were written to: bit k%8 of byte k/8 is page k.
   *
   * @param pageSize - bytes that a bit stands for
   * @param clear - forgets them; yes unless said otherwise
   */
  async dirtyBitmap(
    hwptId: number,
    range: { iova: bigint; size: bigint },
    pageSize: bigint,
    clear = true,
  ): Promise<Uint8Array> {
    using memory = new Scratch(this.transport, bitmapBytes(range.size, pageSize));
    const flags = clear ? 0 : IommuHwptGetDirtyBitmapFlag.NO_CLEAR;
    const what = { size: iommuHwptGetDirtyBitmap.size, hwptId, flags, iova: range.iova, length: range.size };
    await this.request('HWPT_GET_DIRTY_BITMAP', iommuHwptGetDirtyBitmap, { ...what, pageSize, data: memory.address });
    return bitmapOf(memory.bytes(), this.transport.byteOrder);
  }

  /**
   * Asks what the hardware behind a device can do.
   *
   * @param deviceId - what the device was bound as
   */
  async hwInfo(deviceId: number): Promise<HardwareInfo> {
    const value = { size: iommuHwInfo.size, devId: deviceId };
    const { dataLen } = await this.request('GET_HW_INFO', iommuHwInfo, value);
    using memory = new Scratch(this.transport, dataLen);
    const room = { dataLen, dataUptr: dataLen > 0 ? memory.address : 0n };
    const info = await this.request('GET_HW_INFO', iommuHwInfo, { ...value, ...room });
    return {
      type: info.outDataType,
      data: info.outDataType === IommuHwInfoType.NONE ? new Uint8Array() : memory.bytes(),
      capabilities: info.outCapabilities,
      maxPasids: info.outMaxPasidLog2 === 0 ? 0 : 2 ** info.outMaxPasidLog2,
    };
  }

  /** Who pays for pinned pages: the user, over all processes, or the process, as containers count. */
  async limitsMode(): Promise<'user' | 'process'> {
    return (await this.option(IommuOptionId.RLIMIT_MODE)) === 1n ? 'process' : 'user';
  }

  /** Chooses who pays; EBUSY once there is any object. */
  async setLimitsMode(mode: 'user' | 'process'): Promise<void> {
    await this.option(IommuOptionId.RLIMIT_MODE, 0, mode === 'process' ? 1n : 0n);
  }

  /**
   * Reads an option, or sets it when a value is given.
   *
   * @param option - an IommuOptionId
   * @param objectId - whose option it is, if it is of an object
   */
  async option(option: number, objectId = 0, value?: bigint): Promise<bigint> {
    const op = value === undefined ? IommuOptionOp.GET : IommuOptionOp.SET;
    const request = { size: iommuOption.size, optionId: option, op, objectId, val64: value ?? 0n };
    return (await this.request('OPTION', iommuOption, request)).val64;
  }

  /** Takes over what another process is charged for mappings of files, after the descriptor came from there. */
  async changeProcess(): Promise<void> {
    await this.request('IOAS_CHANGE_PROCESS', iommuIoasChangeProcess, { size: iommuIoasChangeProcess.size });
  }

  /** The address space that VFIO's own requests and groups work on; ENODEV if there is none. */
  async vfioIoas(): Promise<Ioas> {
    const value = { size: iommuVfioIoas.size, op: IommuVfioIoasOp.GET };
    return new Ioas(this, (await this.request('VFIO_IOAS', iommuVfioIoas, value)).ioasId);
  }

  /** Chooses it; undefined: there is none from now on. */
  async setVfioIoas(ioas: Ioas | undefined): Promise<void> {
    const op = ioas ? IommuVfioIoasOp.SET : IommuVfioIoasOp.CLEAR;
    await this.request('VFIO_IOAS', iommuVfioIoas, { size: iommuVfioIoas.size, op, ioasId: ioas?.id ?? 0 });
  }
}
