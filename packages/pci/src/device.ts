/*
 * The device of `vfio-pci`: that of the core, with the regions that Intel's display adapters need.
 */

import { isSystemError } from '@vfio/host';
import type { PciDev } from './bus/pci-dev.js';
import { coreDisable } from './core/close.js';
import { PciCoreDevice, type PciCoreOptions } from './core/core-device.js';
import { enable, finishEnable } from './core/enable.js';
import { igdInit } from './core/igd.js';

const INTEL = 0x8086;
/** Base class of display controllers. */
const DISPLAY = 0x03;

/** What a device of `vfio-pci` is made of. */
export interface VfioPciParts {
  readonly pdev: PciDev;
  readonly options: PciCoreOptions;
}

/**
 * A function that any program may drive.
 *
 * @source drivers/vfio/pci/vfio_pci.c vfio_pci_ops
 */
export class VfioPciDevice extends PciCoreDevice {
  override readonly driverName = 'vfio-pci';

  constructor({ pdev, options }: VfioPciParts) {
    super(pdev, options);
    this.exportsDmaBufs = true;
  }

  /** Source: drivers/vfio/pci/vfio_pci.c vfio_pci_open_device() */
  override async openDevice(): Promise<void> {
    await enable(this);
    try {
      if (isIntelDisplay(this.pdev)) await initIgd(this);
    } catch (error) {
      await coreDisable(this);
      throw error;
    }
    finishEnable(this);
  }
}

/** Source: drivers/vfio/pci/vfio_pci.c vfio_pci_is_intel_display() */
function isIntelDisplay({ vendor, classCode }: PciDev): boolean {
  return vendor === INTEL && classCode >> 16 === DISPLAY;
}

/** An adapter that the firmware has left nothing for is one like any other. */
async function initIgd(device: VfioPciDevice): Promise<void> {
  try {
    await igdInit(device);
  } catch (error) {
    if (!isSystemError(error, 'ENODEV')) throw error;
  }
}
