/**
 * What a container tells about itself: page sizes, and as capabilities how dirty pages are reported, how many mappings are
 * left and which IOVA may be mapped.
 */
import type { IoctlCall } from '@vfio/host';
import { InfoCap, writeInfo } from '../info-cap.js';
import {
  IommuInfoCap,
  IommuInfoFlag,
  iommuType1Info,
  iommuType1InfoCapIovaRange,
  iommuType1InfoCapMigration,
  iommuType1InfoDmaAvail,
  iovaRange,
} from '../uapi/vfio.js';
import { copyArgsz } from '../user-args.js';
import { DIRTY_BITMAP_SIZE_MAX } from './dirty-bitmap.js';
import type { Type1State } from './state.js';

const capVersion = 1;

/** Source: drivers/vfio/vfio_iommu_type1.c vfio_iommu_migration_build_caps() */
function addMigration(state: Type1State, caps: InfoCap): void {
  const header = { id: IommuInfoCap.MIGRATION, version: capVersion };
  const maxDirtyBitmapSize = BigInt(DIRTY_BITMAP_SIZE_MAX);
  caps.addCapability(
    iommuType1InfoCapMigration.encode({ header, pgsizeBitmap: state.pgsize, maxDirtyBitmapSize }, caps.order),
  );
}

/** Source: drivers/vfio/vfio_iommu_type1.c vfio_iommu_dma_avail_build_caps() */
function addDmaAvail(state: Type1State, caps: InfoCap): void {
  const header = { id: IommuInfoCap.DMA_AVAIL, version: capVersion };
  caps.addCapability(iommuType1InfoDmaAvail.encode({ header, avail: state.dmaAvail }, caps.order));
}

/** Left out while no hardware restricts anything. Source: vfio_iommu_iova_build_caps() */
function addIovaRanges(state: Type1State, caps: InfoCap): void {
  const { windows } = state;
  if (windows.length === 0) return;
  state.host.faults.check('vfio_iommu_iova_build_caps:memory');
  const header = { id: IommuInfoCap.IOVA_RANGE, version: capVersion };
  const fixed = iommuType1InfoCapIovaRange.encode({ header, nrIovas: windows.length }, caps.order);
  const cap = new Uint8Array(fixed.length + windows.length * iovaRange.size);
  cap.set(fixed);
  cap.set(iovaRange.encodeArray(windows, caps.order), fixed.length);
  caps.addCapability(cap);
}

/**
 * VFIO_IOMMU_GET_INFO. With room for it, the chain follows the struct; otherwise `argsz` says how much would do.
 *
 * @throws EFAULT - the buffer is not accessible
 * @throws EINVAL - argsz is too small for the page sizes
 * @throws ENOMEM - no memory for the capabilities
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_get_info()
 */
export async function getInfo(state: Type1State, call: IoctlCall): Promise<number> {
  const { argsz } = iommuType1Info.decode(copyArgsz(call, iommuType1Info.endOf('iovaPgsizes')), call.order);
  const caps = new InfoCap(state.host, call.order);
  const info = { argsz, flags: IommuInfoFlag.PGSIZES as number, iovaPgsizes: 0n, capOffset: 0, pad: 0 };
  {
    using _held = await state.lockForRequest();
    info.iovaPgsizes = state.pgsizeBitmap;
    addMigration(state, caps);
    addDmaAvail(state, caps);
    addIovaRanges(state, caps);
  }
  writeInfo(call, iommuType1Info, info, caps, IommuInfoFlag.CAPS);
  return 0;
}
