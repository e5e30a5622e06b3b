/*
 * What a user is told of: an error of the link, and that the driver wants the device back.
 */
import { getDrvdata } from '../bus/drvdata.js';
import type { PciDev } from '../bus/pci-dev.js';
import type { ErsResult, PciErrorHandlers } from '../bus/pci-driver.js';
import type { PciCoreDevice } from './core-device.js';
import { isPciCoreDevice } from './is-core-device.js';

/**
 * A function has reported an error: its user hears of it, and decides. Nobody resets the function meanwhile.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_aer_err_detected()
 */
export async function aerErrDetected(pdev: PciDev): Promise<ErsResult> {
  const device = getDrvdata(pdev);
  if (isPciCoreDevice(device)) {
    using _held = await device.igate.lock();
    device.irqs.err.signal();
  }
  return 'can-recover';
}

/** What drivers on this core answer to errors. Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_err_handlers */
export const coreErrHandlers: PciErrorHandlers = { errorDetected: aerErrDetected };

/**
 * The driver goes while somebody uses the device.
 *
 * @param count - how often he was asked before
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_request()
 */
export function coreRequest({ irqs, pdev }: PciCoreDevice, count: number): void {
  const { log } = pdev.pciHost;
  if (irqs.req.connected) {
    if (count % 10 === 0) log.notice(`Relaying device request to user (#${count})`, pdev.logName());
    irqs.req.signal();
  } else if (count === 0) {
    log.warn('No device request channel registered, blocked until released by user', pdev.logName());
  }
}
