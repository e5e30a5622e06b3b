/** What the devices of all samples answer in the same way. */
import {
  type InfoCap,
  type IommufdContext,
  iommufdEmulatedAttachIoas,
  iommufdEmulatedBind,
  iommufdEmulatedDetachIoas,
  iommufdEmulatedUnbind,
  type RegionInfo,
  VfioDevice,
} from '@vfio/core';
import type { UserBuffer } from '@vfio/host';
import { type AccessTarget, readInSteps, writeInSteps } from './access.js';

/** The address space of a device file. */
export interface SampleRegions extends AccessTarget {
  /**
   * Fills in flags, size and offset of `info.index`, and adds capabilities.
   *
   * @throws EINVAL - no such region
   */
  describe(info: RegionInfo, caps: InfoCap): void;
}

/** A device without an IOMMU of its own whose file is accessed in steps of up to four bytes. */
export abstract class SampleDevice extends VfioDevice {
  protected abstract readonly regions: SampleRegions;

  override bindIommufd(context: IommufdContext): Promise<number> {
    return iommufdEmulatedBind(this, context);
  }

  override unbindIommufd(): Promise<void> {
    return iommufdEmulatedUnbind(this);
  }

  override attachIoas(ptId: number): Promise<number> {
    return iommufdEmulatedAttachIoas(this, ptId);
  }

  override detachIoas(): Promise<void> {
    return iommufdEmulatedDetachIoas(this);
  }

  override read(buffer: UserBuffer, position: number): number {
    return readInSteps(this.regions, buffer, position);
  }

  override write(buffer: UserBuffer, position: number): number {
    return writeInSteps(this.regions, buffer, position);
  }

  override getRegionInfoCaps(info: RegionInfo, caps: InfoCap): void {
    this.regions.describe(info, caps);
  }
}
