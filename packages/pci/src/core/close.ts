/*
 * The last close of a device: whatever its user has left is ended, and the function gets back the state that it had before. The
 * lock of its set is held, so that locks which somebody may hold who wants that one are only tried.
 */
import { isSystemError } from '@vfio/host';
import { writeConfigWord } from '../bus/config.js';
import { clearMaster, disableDevice } from '../bus/enable.js';
import type { PciDev } from '../bus/pci-dev.js';
import { PowerState } from '../bus/power-state.js';
import { Command, Reg } from '../bus/regs.js';
import { devTrylock, upstreamBridge } from '../bus/reset.js';
import { resetFunctionLocked } from '../bus/reset-methods.js';
import { loadSavedState, restoreState, saveState } from '../bus/state.js';
import type { PciCoreDevice } from './core-device.js';
import { devSetTryReset } from './device-set.js';
import { releaseDummies, unmapBars } from './map-bars.js';
import { runtimePmExit, trySetPowerState } from './power.js';

/**
 * `closeDevice` of a driver that adds nothing, and the end of that of others.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_close_device()
 */
export async function coreCloseDevice(device: PciCoreDevice): Promise<void> {
  const token = device.sriovPfCoreDev?.vfToken;
  if (token) token.users--;
  await device.dmabufs.cleanup();
  await coreDisable(device);
  using _held = await device.igate.lock();
  device.irqs.err.drop();
  device.irqs.req.drop();
}

/**
 * Switches the function off, after it was reset if that is possible.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_disable()
 */
export async function coreDisable(device: PciCoreDevice): Promise<void> {
  const { pdev, options, deviceSet } = device;
  await runtimePmExit(device);
  await ignoring(pdev.pm.resume());
  // What it forgets on the way up from D3 is put back here.
  await trySetPowerState(device, PowerState.D0);
  clearMaster(pdev);
  await ignoring(device.irqs.disable());
  await device.ioeventfds.removeAll();
  device.virqDisabled = false;
  for (const region of device.regions.splice(0)) region.ops.release?.(device);
  device.config?.free();
  device.config = undefined;
  unmapBars(device);
  releaseDummies(device);
  device.needsReset = true;
  await resetAndRestore(device);
  disableDevice(pdev);
  if (deviceSet) await devSetTryReset(deviceSet);
  if (!options.disableIdleD3) await pdev.pm.put();
}

/** Puts the saved state back, with a reset before if there is a way. */
async function resetAndRestore(device: PciCoreDevice): Promise<void> {
  const { pdev, resetWorks } = device;
  const stored = device.pciSavedState;
  device.pciSavedState = undefined;
  try {
    loadSavedState(pdev, stored);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    pdev.pciHost.log.info("vfio_pci_core_disable: Couldn't reload saved state", pdev.logName());
    if (!resetWorks) return;
    saveState(pdev);
  }
  // Interrupts off, and no access to it or by it.
  writeConfigWord(pdev, Reg.COMMAND, Command.INTX_DISABLE);
  if (resetWorks && (await resetIfFree(pdev))) device.needsReset = false;
  restoreState(pdev);
}

/** @returns whether it was reset: nobody had the locks, and the method worked */
async function resetIfFree(pdev: PciDev): Promise<boolean> {
  const bridge = upstreamBridge(pdev);
  using above = bridge && devTrylock(bridge);
  if (bridge && !above) return false;
  using own = devTrylock(pdev);
  if (!own) return false;
  try {
    await resetFunctionLocked(pdev);
    return true;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  }
}

async function ignoring(step: Promise<void>): Promise<void> {
  try {
    await step;
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}
