/** The requests about a device and its interrupts that the samples answer in the same way. */
import {
  type DeviceInfo,
  DeviceInfoFlag,
  deviceInfo,
  type IrqInfo,
  irqInfo,
  PCI_NUM_IRQS,
  VfioError,
} from '@vfio/core';
import type { IoctlCall } from '@vfio/host';

/** Bytes of the device info that are read and written back: its first version, without capabilities. */
const DEVICE_INFO_SIZE = deviceInfo.endOf('numIrqs');

/**
 * VFIO_DEVICE_GET_INFO of a PCI function without capabilities.
 *
 * @param numRegions - regions of the device
 * @param remember - takes what is about to be returned, also when the caller can not receive it
 * @throws EFAULT - the argument is not accessible
 * @throws EINVAL - `argsz` below 16
 * @source samples/vfio-mdev/mtty.c mtty_ioctl(), mdpy.c mdpy_ioctl(), mbochs.c mbochs_ioctl()
 */
export function ioctlGetInfo(call: IoctlCall, numRegions: number, remember?: (info: DeviceInfo) => void): number {
  const info = deviceInfo.decode(call.copyIn(DEVICE_INFO_SIZE), call.order);
  requireArgsz(info.argsz, DEVICE_INFO_SIZE);
  info.flags = DeviceInfoFlag.PCI; // RESET works as well, and is not reported
  info.numRegions = numRegions;
  info.numIrqs = PCI_NUM_IRQS;
  remember?.(info);
  call.copyOut(deviceInfo.encode(info, call.order).subarray(0, DEVICE_INFO_SIZE));
  return 0;
}

/**
 * VFIO_DEVICE_GET_IRQ_INFO.
 *
 * @param numIrqs - indexes that the caller may ask for
 * @param fill - sets flags and count of an index below that
 * @throws EFAULT - the argument is not accessible
 * @throws EINVAL - `argsz` below 16, or no such index
 * @source samples/vfio-mdev/mtty.c mtty_ioctl(), mdpy.c mdpy_ioctl(), mbochs.c mbochs_ioctl()
 */
export function ioctlGetIrqInfo(call: IoctlCall, numIrqs: number, fill: (info: IrqInfo) => void): number {
  const info = irqInfo.decode(call.copyIn(irqInfo.size), call.order);
  requireArgsz(info.argsz, irqInfo.size);
  if (info.index >= numIrqs) throw new VfioError('EINVAL', `interrupt index ${info.index} of ${numIrqs}`);
  fill(info);
  call.copyOut(irqInfo.encode(info, call.order));
  return 0;
}

function requireArgsz(argsz: number, least: number): void {
  if (argsz < least) throw new VfioError('EINVAL', `argsz is ${argsz}, ${least} are needed`);
}
