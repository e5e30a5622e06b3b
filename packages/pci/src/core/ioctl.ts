/*
 * Requests of a device file that the core of VFIO leaves to drivers.
 */
import { Request, VfioError } from '@vfio/core';
import type { IoctlCall } from '@vfio/host';
import type { PciCoreDevice } from './core-device.js';
import { ioctlGetPciHotResetInfo, ioctlPciHotReset } from './hot-reset.js';
import { ioctlGetInfo } from './info.js';
import { ioctlReset } from './reset.js';

/**
 * Does a request.
 *
 * @throws ENOTTY - there is no such request
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_ioctl()
 */
export function coreIoctl(device: PciCoreDevice, call: IoctlCall): number | Promise<number> {
  switch (call.request) {
    case Request.DEVICE_GET_INFO:
      return ioctlGetInfo(device, call);
    case Request.DEVICE_GET_IRQ_INFO:
      return device.irqs.ioctlGetIrqInfo(call);
    case Request.DEVICE_SET_IRQS:
      return device.irqs.ioctlSetIrqs(call);
    case Request.DEVICE_RESET:
      return ioctlReset(device);
    case Request.DEVICE_GET_PCI_HOT_RESET_INFO:
      return ioctlGetPciHotResetInfo(device, call);
    case Request.DEVICE_PCI_HOT_RESET:
      return ioctlPciHotReset(device, call);
    case Request.DEVICE_IOEVENTFD:
      return device.ioeventfds.ioctl(call);
    default:
      throw new VfioError('ENOTTY', `unknown request 0x${call.request.toString(16)}`, { syscall: 'ioctl' });
  }
}
