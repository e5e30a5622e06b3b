/**
 * VFIO_IOMMU_GET_INFO on /dev/iommu: page sizes, room for mappings and usable ranges. Unlike type1, it writes those
 * capabilities that fit, and always says how many bytes all of them take.
 */
import type { IoctlCall } from '@vfio/host';
import {
  IommuInfoCap,
  IommuInfoFlag,
  infoCapHeader,
  iommuType1Info,
  iommuType1InfoCapIovaRange,
  iommuType1InfoDmaAvail,
  iovaRange,
} from '../uapi/vfio.js';
import { copyArgsz } from '../user-args.js';
import type { IommufdContext } from './context.js';
import type { IoPagetable } from './io-pagetable.js';
import { ADDRESS_MAX, PAGE } from './iova-range.js';
import { holdCompatIoas } from './vfio-ioas.js';

/** As many mappings as memory allows. */
const U32_MAX = 0xffff_ffff;

/** Page sizes that all domains have, nothing below a page of the CPU. Source: vfio_compat.c iommufd_get_pagesizes() */
async function pageSizes(iopt: IoPagetable): Promise<bigint> {
  using _held = await iopt.domainsRwsem.read();
  let sizes = ADDRESS_MAX;
  for (const domain of iopt.domains) sizes &= domain.pageSizes;
  const belowPage = PAGE - 1n;
  if ((sizes & belowPage) !== 0n) sizes = (sizes & ~belowPage) | PAGE;
  return sizes > iopt.iovaAlignment ? sizes : iopt.iovaAlignment;
}

/** A capability: its bytes with all headers, and how it is written where only a part fits. */
interface Capability {
  /** Bytes it takes. */
  readonly length: number;
  /** Writes what fits in `room` bytes at an offset of the argument. */
  write(offset: number, room: number): void;
}

/** Source: drivers/iommu/iommufd/vfio_compat.c iommufd_fill_cap_dma_avail() */
function dmaAvail(call: IoctlCall): Capability {
  const header = { id: IommuInfoCap.DMA_AVAIL, version: 1, next: 0 };
  const bytes = iommuType1InfoDmaAvail.encode({ header, avail: U32_MAX }, call.order);
  return {
    length: bytes.length,
    write(offset, room) {
      if (room >= bytes.length) call.copyOut(bytes, offset);
    },
  };
}

/** Ranges are written as far as they fit, the header only with all of them. Source: iommufd_fill_cap_iova() */
function iovaRanges(call: IoctlCall, iopt: IoPagetable): Capability {
  const ranges = iopt.usable();
  const headSize = iommuType1InfoCapIovaRange.size;
  const header = { id: IommuInfoCap.IOVA_RANGE, version: 1, next: 0 };
  const head = iommuType1InfoCapIovaRange.encode({ header, nrIovas: ranges.length, reserved: 0 }, call.order);
  const length = headSize + ranges.length * iovaRange.size;
  return {
    length,
    write(offset, room) {
      for (const [index, { start, last }] of ranges.entries()) {
        const at = headSize + index * iovaRange.size;
        if (room < at + iovaRange.size) break;
        call.copyOut(iovaRange.encode({ start, end: last }, call.order), offset + at);
      }
      if (room >= length) call.copyOut(head.subarray(0, headSize), offset);
    },
  };
}

/**
 * VFIO_IOMMU_GET_INFO.
 *
 * @throws EFAULT - the argument is not accessible
 * @throws EINVAL - argsz
 * @throws ENODEV - the context has no compat IOAS
 * @source drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_iommu_get_info()
 */
export async function vfioGetInfo(context: IommufdContext, call: IoctlCall): Promise<number> {
  const minimum = iommuType1Info.endOf('iovaPgsizes');
  const { argsz } = iommuType1Info.decode(copyArgsz(call, minimum), call.order);
  using ioas = holdCompatIoas(context);
  const { iopt } = ioas.object;
  const iovaPgsizes = await pageSizes(iopt);
  using _held = await iopt.iovaRwsem.read();
  const nextField = infoCapHeader.offsetOf('next');
  let total = iommuType1Info.size;
  let previous: number | undefined;
  for (const capability of [dmaAvail(call), iovaRanges(call, iopt)]) {
    if (argsz > total) capability.write(total, argsz - total);
    if (previous !== undefined && argsz >= total) {
      const link = infoCapHeader.encode({ id: 0, version: 0, next: total }, call.order);
      call.copyOut(link.subarray(nextField), previous + nextField);
    }
    previous = total;
    total += Math.ceil(capability.length / 8) * 8;
  }
  const info = {
    argsz: total,
    flags: IommuInfoFlag.PGSIZES | IommuInfoFlag.CAPS,
    iovaPgsizes,
    capOffset: argsz >= total ? iommuType1Info.size : 0,
    pad: 0,
  };
  call.copyOut(iommuType1Info.encode(info, call.order).subarray(0, argsz));
  return 0;
}
