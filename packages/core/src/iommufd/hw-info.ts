/** IOMMU_GET_HW_INFO: what the hardware behind a bound device can do. */
import { VfioError } from '../errors.js';
import { IommuHwCap, IommuHwInfoFlag, IommuHwInfoType, type iommuHwInfo } from '../uapi/iommufd.js';
import type { Command } from './command.js';
import { IommufdDevice } from './device.js';

const syscall = 'IOMMU_GET_HW_INFO';
/** Bytes of zeros that are written at a time. */
const CHUNK = 4096;

/**
 * IOMMU_GET_HW_INFO. The data is cut to the room that the caller has, or followed by zeros; its length is told in full.
 *
 * @throws EOPNOTSUPP - an unknown flag, a reserved byte that is not 0, or a type that the hardware does not have
 * @throws ENOENT - no such device
 * @throws EFAULT - not writable
 * @source drivers/iommu/iommufd/device.c iommufd_get_hw_info()
 */
export function getHwInfo({ context, call, args, respond }: Command<typeof iommuHwInfo.fields>): void {
  if ((args.flags & ~IommuHwInfoFlag.INPUT_TYPE) !== 0 || args.reserved.some((byte) => byte !== 0)) {
    throw new VfioError('EOPNOTSUPP', `flags 0x${args.flags.toString(16)} or reserved bytes`, { syscall });
  }
  using idev = context.objects.hold(args.devId, IommufdDevice);
  const { device } = idev.object;
  const { iommufd, host } = context;
  const info = iommufd.options.hwInfo?.(device);
  const wanted = (args.flags & IommuHwInfoFlag.INPUT_TYPE) === 0 ? IommuHwInfoType.DEFAULT : args.inDataType;
  if (info && wanted !== IommuHwInfoType.DEFAULT && wanted !== info.type) {
    throw new VfioError('EOPNOTSUPP', `the hardware is of type ${info.type}, not ${wanted}`, { syscall });
  }
  const data = info?.data ?? new Uint8Array();
  call.copyOutAt(args.dataUptr, data.subarray(0, args.dataLen));
  for (let at = data.length; at < args.dataLen; at += CHUNK) {
    call.copyOutAt(args.dataUptr + BigInt(at), new Uint8Array(Math.min(CHUNK, args.dataLen - at)));
  }
  const outDataType = info?.type ?? IommuHwInfoType.NONE;
  const pasids = host.iommu.pasidsOf(device);
  const exec = pasids.exec ? IommuHwCap.PCI_PASID_EXEC : 0;
  const priv = pasids.priv ? IommuHwCap.PCI_PASID_PRIV : 0;
  const dirty = host.iommu.capable(device, 'dirty-tracking') ? IommuHwCap.DIRTY_TRACKING : 0;
  const ats = iommufd.options.atsSupported?.(device) === true ? 0 : IommuHwCap.PCI_ATS_NOT_SUPPORTED;
  respond({
    ...args,
    dataLen: data.length,
    outDataType,
    inDataType: outDataType,
    outMaxPasidLog2: pasids.max > 0 ? 31 - Math.clz32(pasids.max) : 0,
    outCapabilities: BigInt(dirty | ats | exec | priv),
  });
}
