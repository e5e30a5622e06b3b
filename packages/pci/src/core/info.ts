/*
 * VFIO_DEVICE_GET_INFO: that it is a PCI function, how many regions it has, and which atomic operations it may send.
 */
import {
  copyArgsz,
  DeviceInfoCap,
  DeviceInfoFlag,
  deviceInfo,
  deviceInfoCapPciAtomicComp,
  InfoCap,
  PCI_NUM_IRQS,
  PCI_NUM_REGIONS,
  PciAtomicComp,
  writeInfo,
} from '@vfio/core';
import { type IoctlCall, isSystemError } from '@vfio/host';
import { physfn } from '../bus/iov.js';
import type { PciDev } from '../bus/pci-dev.js';
import { enableAtomicOpsToRoot, pcieReadDword } from '../bus/pcie.js';
import { Exp } from '../bus/regs.js';
import type { PciCoreDevice } from './core-device.js';

/** Bytes of the structure that every caller has. */
const MINIMUM = deviceInfo.endOf('numIrqs');

/** Widths of atomic operations. */
const widths = [
  [Exp.DEVCAP2_ATOMIC_COMP32, PciAtomicComp.COMP32],
  [Exp.DEVCAP2_ATOMIC_COMP64, PciAtomicComp.COMP64],
  [Exp.DEVCAP2_ATOMIC_COMP128, PciAtomicComp.COMP128],
] as const;

/**
 * VFIO_DEVICE_GET_INFO.
 *
 * @throws EINVAL - `argsz` is too small
 * @throws EFAULT, ENOMEM
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_get_info()
 */
export function ioctlGetInfo(device: PciCoreDevice, call: IoctlCall): number {
  const { pdev, resetWorks, regions } = device;
  const head = copyArgsz(call, MINIMUM);
  const bytes = new Uint8Array(deviceInfo.size);
  bytes.set(head);
  const info = deviceInfo.decode(bytes, call.order);
  info.flags = resetWorks ? DeviceInfoFlag.PCI | DeviceInfoFlag.RESET : DeviceInfoFlag.PCI;
  info.numRegions = PCI_NUM_REGIONS + regions.length;
  info.numIrqs = PCI_NUM_IRQS;
  const caps = new InfoCap(pdev.pciHost, call.order);
  addAtomicCap(pdev, caps);
  writeInfo(call, deviceInfo, info, caps, DeviceInfoFlag.CAPS);
  return 0;
}

/**
 * Which atomic operations reach the root. A virtual function has what its physical one has.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_info_atomic_cap()
 */
function addAtomicCap(pdev: PciDev, caps: InfoCap): void {
  const physical = physfn(pdev);
  const cap = pcieReadDword(physical, Exp.DEVCAP2);
  let flags = 0;
  for (const [wanted, flag] of widths) if ((cap & wanted) !== 0 && reachesRoot(physical, wanted)) flags |= flag;
  if (flags === 0) return;
  const header = { id: DeviceInfoCap.PCI_ATOMIC_COMP, version: 1 };
  caps.addCapability(deviceInfoCapPciAtomicComp.encode({ header, flags }, caps.order));
}

function reachesRoot(pdev: PciDev, width: number): boolean {
  try {
    enableAtomicOpsToRoot(pdev, width);
    return true;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  }
}
