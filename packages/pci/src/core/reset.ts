/*
 * VFIO_DEVICE_RESET: of the function alone.
 */
import { PowerState } from '../bus/power-state.js';
import { tryResetFunction } from '../bus/reset.js';
import type { PciCoreDevice } from './core-device.js';
import { memoryEnabled, zapAndDownWrite } from './memory.js';
import { failure } from './pci-failure.js';
import { trySetPowerState } from './power.js';

/**
 * Resets the function. What the user sees of config space stays as it is.
 *
 * @throws EINVAL - there is no way to reset it
 * @throws EAGAIN - somebody has its lock
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_reset()
 */
export async function ioctlReset(device: PciCoreDevice): Promise<number> {
  if (!device.resetWorks) throw failure('EINVAL', device.pdev, 'there is no way to reset it', 'VFIO_DEVICE_RESET');
  await resetUnderMemoryLock(device);
  return 0;
}

/**
 * Resets a function while nobody reaches its memory: users, other devices. The user may also ask for this in config space.
 *
 * @throws ENOTTY, EAGAIN - as `tryResetFunction` says
 */
export async function resetUnderMemoryLock(device: PciCoreDevice): Promise<void> {
  using _held = await zapAndDownWrite(device);
  // Saved and restored around a reset is what the function has in D0 only.
  await trySetPowerState(device, PowerState.D0);
  await device.dmabufs.move(true);
  try {
    await tryResetFunction(device.pdev);
  } finally {
    if (memoryEnabled(device)) await device.dmabufs.move(false);
  }
}
