// Requests that map and unmap one range of IOVA, encoded once, so that a figure is not about encoding.

import {
  DmaMapFlag,
  IommufdRequest,
  IommuIoasMapFlag,
  IommuVfioIoasOp,
  iommuIoasMap,
  iommuIoasUnmap,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  iommuVfioIoas,
  Request,
} from '@vfio/core';
import { Prot } from '@vfio/host';
import type { Lab } from './lab.js';

/** Maps a range and unmaps it again. */
export interface Mapper {
  map(): Promise<number>;
  unmap(): Promise<number>;
}

/** Memory of the process to map; it may be mapped as often as one likes. */
export function memory({ process }: Lab, bytes: number): bigint {
  return process.mm.mmap({ length: bytes, prot: Prot.READ | Prot.WRITE });
}

/** For a container. */
export function mapper(lab: Lab, container: number, bytes: number, iova: bigint, vaddr = memory(lab, bytes)): Mapper {
  const { process } = lab;
  const size = BigInt(bytes);
  const flags = DmaMapFlag.READ | DmaMapFlag.WRITE;
  const order = process.byteOrder;
  const mapping = iommuType1DmaMap.encode({ argsz: iommuType1DmaMap.size, flags, vaddr, iova, size }, order);
  const range = iommuType1DmaUnmap.encode({ argsz: iommuType1DmaUnmap.size, flags: 0, iova, size }, order);
  return {
    map: () => process.ioctl(container, Request.IOMMU_MAP_DMA, mapping),
    unmap: () => process.ioctl(container, Request.IOMMU_UNMAP_DMA, range),
  };
}

/** The address space that groups with this iommufd for a container are attached to. */
export async function compatIoas({ process }: Lab, iommufd: number): Promise<number> {
  const request = { size: iommuVfioIoas.size, op: IommuVfioIoasOp.GET };
  const bytes = iommuVfioIoas.encode(request, process.byteOrder);
  await process.ioctl(iommufd, IommufdRequest.VFIO_IOAS, bytes);
  return iommuVfioIoas.decode(bytes, process.byteOrder).ioasId;
}

/** For an address space of an iommufd. */
export function ioasMapper(lab: Lab, iommufd: number, ioasId: number, iova: bigint, userVa: bigint): Mapper {
  const { process } = lab;
  const length = 4096n;
  const flags = IommuIoasMapFlag.FIXED_IOVA | IommuIoasMapFlag.READABLE | IommuIoasMapFlag.WRITEABLE;
  const order = process.byteOrder;
  const mapping = iommuIoasMap.encode({ size: iommuIoasMap.size, flags, ioasId, userVa, length, iova }, order);
  const range = iommuIoasUnmap.encode({ size: iommuIoasUnmap.size, ioasId, iova, length }, order);
  return {
    map: () => process.ioctl(iommufd, IommufdRequest.IOAS_MAP, mapping),
    unmap: () => process.ioctl(iommufd, IommufdRequest.IOAS_UNMAP, range),
  };
}
