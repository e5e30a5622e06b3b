/*
 * What the uevents of a function say, and its alias, by which its drivers are found.
 */
import type { UeventEnv } from '@vfio/host';
import type { PciDev } from './pci-dev.js';

/** The alias that `modprobe` knows drivers by. Source: drivers/pci/pci-sysfs.c modalias_show() */
export function modalias(pdev: PciDev): string {
  const { vendor, deviceId, subsystemVendor, subsystemDevice, classCode } = pdev;
  const ids = `v${hex(vendor, 8)}d${hex(deviceId, 8)}sv${hex(subsystemVendor, 8)}sd${hex(subsystemDevice, 8)}`;
  return `pci:${ids}bc${hex(classCode >>> 16, 2)}sc${hex((classCode >>> 8) & 0xff, 2)}i${hex(classCode & 0xff, 2)}`;
}

/**
 * Adds the variables of a function.
 *
 * @throws ENOMEM - they do not fit
 * @source drivers/pci/pci-driver.c pci_uevent()
 */
export function addUeventVars(pdev: PciDev, env: UeventEnv): void {
  env.addUeventVar('PCI_CLASS', pdev.classCode.toString(16).toUpperCase().padStart(4, '0'));
  env.addUeventVar('PCI_ID', `${hex(pdev.vendor, 4)}:${hex(pdev.deviceId, 4)}`);
  env.addUeventVar('PCI_SUBSYS_ID', `${hex(pdev.subsystemVendor, 4)}:${hex(pdev.subsystemDevice, 4)}`);
  env.addUeventVar('PCI_SLOT_NAME', pdev.name);
  env.addUeventVar('MODALIAS', modalias(pdev));
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0');
}
