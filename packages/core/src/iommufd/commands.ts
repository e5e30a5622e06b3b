/** The requests of iommufd: which struct, which part of it every caller has to know, and which room serves it. */
import type { IoctlCall } from '@vfio/host';
import { VfioError } from '../errors.js';
import {
  iommuDestroy,
  iommuHwInfo,
  iommuHwptAlloc,
  iommuHwptGetDirtyBitmap,
  iommuHwptSetDirtyTracking,
  iommuIoasAlloc,
  iommuIoasAllowIovas,
  iommuIoasChangeProcess,
  iommuIoasCopy,
  iommuIoasIovaRanges,
  iommuIoasMap,
  iommuIoasMapFile,
  iommuIoasUnmap,
  iommuOption,
  iommuVfioIoas,
} from '../uapi/iommufd.js';
import { IOMMUFD_CMD_BASE, IommufdRequest } from '../uapi/vfio.js';
import { ioasChangeProcess } from './change-process.js';
import { type CommandOp, commandOp } from './command.js';
import type { IommufdContext } from './context.js';
import { ioasCopy } from './copy.js';
import { hwptGetDirtyBitmap, hwptSetDirtyTracking } from './dirty.js';
import { getHwInfo } from './hw-info.js';
import { hwptAlloc } from './hwpt.js';
import { ioasAlloc } from './ioas.js';
import { ioasMap, ioasMapFile } from './map.js';
import { option } from './option.js';
import { ioasAllowIovas, ioasIovaRanges } from './ranges.js';
import { ioasUnmap } from './unmap.js';
import { vfioIoctl } from './vfio-compat.js';
import { vfioIoas } from './vfio-ioas.js';

/** Source: drivers/iommu/iommufd/main.c iommufd_ioctl_ops */
const ops: ReadonlyMap<number, CommandOp> = new Map<number, CommandOp>([
  [IommufdRequest.DESTROY, commandOp(iommuDestroy, 'id', ({ context, args }) => context.objects.remove(args.id))],
  [IommufdRequest.IOAS_ALLOC, commandOp(iommuIoasAlloc, 'outIoasId', ioasAlloc)],
  [IommufdRequest.IOAS_ALLOW_IOVAS, commandOp(iommuIoasAllowIovas, 'allowedIovas', ioasAllowIovas)],
  [IommufdRequest.IOAS_COPY, commandOp(iommuIoasCopy, 'srcIova', ioasCopy)],
  [IommufdRequest.IOAS_IOVA_RANGES, commandOp(iommuIoasIovaRanges, 'outIovaAlignment', ioasIovaRanges)],
  [IommufdRequest.IOAS_MAP, commandOp(iommuIoasMap, 'iova', ioasMap)],
  [IommufdRequest.IOAS_MAP_FILE, commandOp(iommuIoasMapFile, 'iova', ioasMapFile)],
  [IommufdRequest.IOAS_UNMAP, commandOp(iommuIoasUnmap, 'length', ioasUnmap)],
  [IommufdRequest.IOAS_CHANGE_PROCESS, commandOp(iommuIoasChangeProcess, 'reserved', ioasChangeProcess)],
  [IommufdRequest.OPTION, commandOp(iommuOption, 'val64', option)],
  [IommufdRequest.VFIO_IOAS, commandOp(iommuVfioIoas, 'reserved', vfioIoas)],
  [IommufdRequest.HWPT_ALLOC, commandOp(iommuHwptAlloc, 'reserved', hwptAlloc)],
  [IommufdRequest.GET_HW_INFO, commandOp(iommuHwInfo, 'reserved', getHwInfo)],
  [IommufdRequest.HWPT_SET_DIRTY_TRACKING, commandOp(iommuHwptSetDirtyTracking, 'reserved', hwptSetDirtyTracking)],
  [IommufdRequest.HWPT_GET_DIRTY_BITMAP, commandOp(iommuHwptGetDirtyBitmap, 'data', hwptGetDirtyBitmap)],
]);

/** Last number of the table, provided here or not. */
const lastNumber = IommufdRequest.HW_QUEUE_ALLOC & 0xff;

/**
 * Performs a request on a context: one of iommufd, by its number, or one of VFIO.
 *
 * @throws EFAULT - the size is not readable, or the struct
 * @throws ENOTTY - no such request
 * @throws EINVAL - the caller's struct is too small
 * @throws E2BIG - the caller's struct has something that the kernel does not know
 * @throws whatever the request says
 * @source drivers/iommu/iommufd/main.c iommufd_fops_ioctl()
 */
export async function iommufdIoctl(context: IommufdContext, call: IoctlCall): Promise<number> {
  const number = call.request & 0xff;
  if (number < IOMMUFD_CMD_BASE || number > lastNumber) return await vfioIoctl(context, call);
  const userSize = call.u32();
  const op = ops.get(call.request);
  if (!op) {
    throw new VfioError('ENOTTY', `iommufd has no request 0x${call.request.toString(16)}`, { syscall: 'ioctl' });
  }
  await op.run(context, call, userSize);
  return 0;
}
