/**
 * What a PCI device on s390 tells in its device info beyond plain PCI: the answers of the CLP instruction, as capabilities.
 */
import { infoCapHeader } from './container.js';
import { nested, pad, struct, tail, u8, u16, u32, u64 } from './struct.js';

/** `struct vfio_device_info_cap_zpci_base`, 40 bytes. Source: include/uapi/linux/vfio_zdev.h */
export const deviceInfoCapZpciBase = struct('vfio_device_info_cap_zpci_base', 40, {
  header: nested(0, infoCapHeader),
  startDma: u64(8), //   first address for DMA
  endDma: u64(16), //    last address for DMA
  pchid: u16(24), //     physical channel
  vfn: u16(26), //       virtual function number
  fmbLength: u16(28), // bytes of the function measurement block
  pft: u8(30), //        PCI function type
  gid: u8(31), //        PCI function group
  fh: u32(32), //        function handle, from version 2
  pad: pad(36, 4),
});

/** `flags` of `deviceInfoCapZpciGroup`. Source: include/uapi/linux/vfio_zdev.h VFIO_DEVICE_INFO_ZPCI_FLAG_* */
export const DeviceInfoZpciFlag = { REFRESH: 1 } as const;

/** `struct vfio_device_info_cap_zpci_group`, 48 bytes. Source: include/uapi/linux/vfio_zdev.h */
export const deviceInfoCapZpciGroup = struct('vfio_device_info_cap_zpci_group', 48, {
  header: nested(0, infoCapHeader),
  dasm: u64(8), //      mask of DMA address spaces
  msiAddr: u64(16),
  flags: u64(24), //    DeviceInfoZpciFlag bits
  mui: u16(32), //      measurement update interval
  noi: u16(34), //      interrupts at most
  maxstbl: u16(36), //  bytes of a store block at most
  version: u8(38),
  reserved: u8(39),
  imaxstbl: u16(40), // bytes of an interpreted store block at most, from version 2
  pad: pad(42, 6),
});

/** `struct vfio_device_info_cap_zpci_util`, 12 bytes and `size` of the utility string. Source: include/uapi/linux/vfio_zdev.h */
export const deviceInfoCapZpciUtil = struct('vfio_device_info_cap_zpci_util', 12, {
  header: nested(0, infoCapHeader),
  size: u32(8), // bytes
  utilStr: tail(12),
});

/** `struct vfio_device_info_cap_zpci_pfip`, 12 bytes and `size` of the internal path. Source: include/uapi/linux/vfio_zdev.h */
export const deviceInfoCapZpciPfip = struct('vfio_device_info_cap_zpci_pfip', 12, {
  header: nested(0, infoCapHeader),
  size: u32(8), // bytes
  pfip: tail(12),
});
