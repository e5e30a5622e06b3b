/**
 * VFIO's own requests on /dev/iommu: an old program takes it for a container of type1. They work on the compat IOAS, which
 * exists once a group was added, or once a user has said which one it is.
 */
import { type IoctlCall, IommuProt } from '@vfio/host';
import { VfioError } from '../errors.js';
import {
  DmaMapFlag,
  DmaUnmapFlag,
  Extension,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  Request,
  VFIO_API_VERSION,
} from '../uapi/vfio.js';
import { copyArgsz } from '../user-args.js';
import type { IommufdContext } from './context.js';
import { ADDRESS_MAX } from './iova-range.js';
import { mapRequest, mapUserPages } from './map.js';
import { cutIova, unmapAll, unmapIova } from './unmap-range.js';
import { vfioGetInfo } from './vfio-info.js';
import { holdCompatIoas } from './vfio-ioas.js';

function invalid(syscall: string, reason: string): VfioError {
  return new VfioError('EINVAL', reason, { syscall });
}

/** Source: drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_map_dma() */
async function mapDma(context: IommufdContext, call: IoctlCall): Promise<number> {
  const args = iommuType1DmaMap.decode(copyArgsz(call, iommuType1DmaMap.endOf('size')), call.order);
  if ((args.flags & ~(DmaMapFlag.READ | DmaMapFlag.WRITE)) !== 0) {
    throw invalid('VFIO_IOMMU_MAP_DMA', `flags 0x${args.flags.toString(16)}`);
  }
  const read = (args.flags & DmaMapFlag.READ) !== 0 ? IommuProt.READ : 0;
  const prot = read | ((args.flags & DmaMapFlag.WRITE) !== 0 ? IommuProt.WRITE : 0);
  using ioas = holdCompatIoas(context);
  const request = mapRequest(context, call, args.size, prot);
  await mapUserPages(ioas.object.iopt, request, args.vaddr, args.iova, prot);
  return 0;
}

/** Source: drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_unmap_dma() */
async function unmapDma(context: IommufdContext, call: IoctlCall): Promise<number> {
  const syscall = 'VFIO_IOMMU_UNMAP_DMA';
  const minimum = iommuType1DmaUnmap.endOf('size');
  const args = iommuType1DmaUnmap.decode(copyArgsz(call, minimum), call.order);
  const { flags, iova, size } = args;
  if ((flags & ~DmaUnmapFlag.ALL) !== 0) throw invalid(syscall, `flags 0x${flags.toString(16)}`);
  using ioas = holdCompatIoas(context);
  const { iopt } = ioas.object;
  const all = (flags & DmaUnmapFlag.ALL) !== 0;
  if (all && (iova !== 0n || size !== 0n)) throw invalid(syscall, 'ALL with a range');
  if (!all && iopt.largePagesDisabled) {
    const before = iova === 0n ? [] : [iova - 1n];
    await cutIova(iopt, [(iova + size - 1n) & ADDRESS_MAX, ...before]);
  }
  const { bytes, failure } = all ? await unmapAll(iopt) : await unmapIova(iopt, iova, size);
  // what was unmapped is told also when the rest failed
  call.copyOut(iommuType1DmaUnmap.encode({ ...args, size: bytes }, call.order).subarray(0, minimum));
  if (failure) throw failure;
  return 0;
}

/** Whether every page table of the compat IOAS enforces coherency. Source: vfio_compat.c iommufd_vfio_cc_iommu() */
async function dmaCoherent(context: IommufdContext): Promise<number> {
  using ioas = holdCompatIoas(context);
  using _held = await ioas.object.mutex.lock();
  return ioas.object.hwpts.every(({ enforceCacheCoherency }) => enforceCacheCoherency) ? 1 : 0;
}

/** Source: drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_check_extension() */
async function checkExtension(context: IommufdContext, extension: bigint): Promise<number> {
  switch (extension) {
    case BigInt(Extension.TYPE1_IOMMU):
    case BigInt(Extension.TYPE1v2_IOMMU):
    case BigInt(Extension.UNMAP_ALL):
      return context.noIommuMode ? 0 : 1;
    case BigInt(Extension.NOIOMMU_IOMMU):
      return context.iommufd.options.noiommu === true ? 1 : 0;
    case BigInt(Extension.DMA_CC_IOMMU):
      return await dmaCoherent(context);
    default:
      return 0;
  }
}

/** Source: drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_set_iommu() */
async function setIommu(context: IommufdContext, call: IoctlCall): Promise<number> {
  const syscall = 'VFIO_SET_IOMMU';
  const type = call.arg;
  const { noIommuMode } = context;
  if (context.iommufd.options.noiommu === true && noIommuMode && type === BigInt(Extension.NOIOMMU_IOMMU)) {
    if (call.process.credentials.capable('SYS_RAWIO')) return 0;
    throw new VfioError('EPERM', 'no-IOMMU mode needs CAP_SYS_RAWIO', { syscall });
  }
  const type1 = type === BigInt(Extension.TYPE1_IOMMU);
  if ((!type1 && type !== BigInt(Extension.TYPE1v2_IOMMU)) || noIommuMode) throw invalid(syscall, `no type ${type}`);
  using ioas = holdCompatIoas(context);
  // version 1 may unmap in the middle of a mapping
  if (type1) await ioas.object.iopt.disableLargePages();
  return 0;
}

/**
 * VFIO's requests: version, extensions, SET_IOMMU (again as often as wanted), GET_INFO, MAP_DMA and UNMAP_DMA.
 *
 * @throws EFAULT, EINVAL - the arguments; they are checked first
 * @throws ENODEV - the context has no compat IOAS
 * @throws EPERM - no-IOMMU mode without CAP_SYS_RAWIO
 * @throws ENOTTY - any other request, DIRTY_PAGES among them
 * @throws as `mapUserPages` and `unmapIova`; a mapping with neither READ nor WRITE is not refused
 * @source drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_ioctl()
 */
export async function vfioIoctl(context: IommufdContext, call: IoctlCall): Promise<number> {
  switch (call.request) {
    case Request.GET_API_VERSION:
      return VFIO_API_VERSION;
    case Request.SET_IOMMU:
      return await setIommu(context, call);
    case Request.CHECK_EXTENSION:
      return await checkExtension(context, call.arg);
    case Request.IOMMU_GET_INFO:
      return await vfioGetInfo(context, call);
    case Request.IOMMU_MAP_DMA:
      return await mapDma(context, call);
    case Request.IOMMU_UNMAP_DMA:
      return await unmapDma(context, call);
    default:
      throw new VfioError('ENOTTY', `iommufd has no request 0x${call.request.toString(16)}`, { syscall: 'ioctl' });
  }
}
