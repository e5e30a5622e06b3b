/*
 * Power of a function in VFIO: the states that its user asks for through config space, and the suspend that happens when its
 * user says that it is not needed for a while, or when it has no user at all.
 */
import { deviceLowPowerEntryWithWakeup, type FeatureCall, type RuntimePm } from '@vfio/core';
import { type EventFd, eventfdFromFd, isSystemError } from '@vfio/host';
import type { PciDev } from '../bus/pci-dev.js';
import { setPowerState as setPciPowerState } from '../bus/power.js';
import { PowerState } from '../bus/power-state.js';
import { loadSavedState, restoreState, saveState, storeSavedState } from '../bus/state.js';
import type { PciCoreDevice } from './core-device.js';
import { downWriteMemory, memoryEnabled, zapAndDownWrite } from './memory.js';
import { failure } from './pci-failure.js';

/** Whether a function is in D3hot or deeper, or nobody knows where. */
function isDeep({ currentState }: PciDev): boolean {
  return currentState === 'unknown' || currentState >= PowerState.D3hot;
}

/**
 * Moves a function to a power state, and keeps what it forgets in D3 if it does. Who calls it has the memory lock, or the
 * device has no users.
 *
 * @throws EBUSY - it has virtual functions, which would be lost
 * @throws EIO, EINVAL - as `setPowerState` of the bus says
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_set_power_state()
 */
export async function setPowerState(device: PciCoreDevice, state: PowerState): Promise<void> {
  const { pdev } = device;
  if (state > PowerState.D0 && device.sriovActive) {
    throw failure('EBUSY', pdev, 'its virtual functions need it', 'vfio_pci_set_power_state');
  }
  const saves = device.needsPmRestore && !isDeep(pdev) && state >= PowerState.D3hot;
  const restores = device.needsPmRestore && isDeep(pdev) && state === PowerState.D0;
  if (saves) saveState(pdev);
  await setPciPowerState(pdev, state);
  if (saves && isDeep(pdev)) device.pmSave = storeSavedState(pdev);
  else if (restores) {
    loadSavedState(pdev, device.pmSave);
    device.pmSave = undefined;
    restoreState(pdev);
  }
}

/** As `setPowerState`; who calls goes on whatever comes of it. */
export async function trySetPowerState(device: PciCoreDevice, state: PowerState): Promise<void> {
  try {
    await setPowerState(device, state);
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}

/**
 * The user writes a power state to config space. What comes of it is read back from there.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_lock_and_set_power_state()
 */
export async function lockAndSetPowerState(device: PciCoreDevice, state: PowerState): Promise<void> {
  using _held = await (state >= PowerState.D3hot ? zapAndDownWrite(device) : downWriteMemory(device));
  if (state >= PowerState.D3hot) await device.dmabufs.move(true);
  await trySetPowerState(device, state);
  if (memoryEnabled(device)) await device.dmabufs.move(false);
}

/** What the core does around each request: the function is awake while it lasts. */
export function corePm(pdev: PciDev): RuntimePm {
  return {
    resume: () => pdev.pm.resumeAndGet(),
    suspend: () => pdev.pm.put(),
  };
}

/**
 * VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: the user does not need the function until it makes the next request.
 *
 * @throws EINVAL - that was said already
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_pm_entry()
 */
export async function featurePmEntry(device: PciCoreDevice, feature: FeatureCall): Promise<number> {
  if (feature.check('set', 0)) await runtimePmEntry(device, feature);
  return 0;
}

/**
 * VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: as without, and an eventfd tells when the function wakes up.
 *
 * @throws EINVAL - that was said already; no descriptor, or not one of an eventfd
 * @throws EBADF, EFAULT
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_pm_entry_with_wakeup()
 */
export async function featurePmEntryWithWakeup(device: PciCoreDevice, feature: FeatureCall): Promise<number> {
  const { size } = deviceLowPowerEntryWithWakeup;
  if (!feature.check('set', size)) return 0;
  const { order, process } = feature.call;
  const { wakeupEventfd } = deviceLowPowerEntryWithWakeup.decode(feature.copyIn(size), order);
  if (wakeupEventfd < 0) throw feature.error('EINVAL', `descriptor ${wakeupEventfd}`);
  const event = eventfdFromFd(process, wakeupEventfd);
  try {
    await runtimePmEntry(device, feature, event);
  } catch (error) {
    event.put();
    throw error;
  }
  return 0;
}

/**
 * VFIO_DEVICE_FEATURE_LOW_POWER_EXIT; there may be nothing to leave any more.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_pm_exit()
 */
export async function featurePmExit(device: PciCoreDevice, feature: FeatureCall): Promise<number> {
  if (feature.check('set', 0)) await runtimePmExit(device);
  return 0;
}

/** Leaves low power, if it is in use. Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_runtime_pm_exit() */
export async function runtimePmExit(device: PciCoreDevice): Promise<void> {
  using _held = await downWriteMemory(device);
  leaveLowPower(device);
  if (memoryEnabled(device)) await device.dmabufs.move(false);
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_runtime_pm_entry() */
async function runtimePmEntry(device: PciCoreDevice, feature: FeatureCall, wakeup?: EventFd): Promise<void> {
  using _held = await zapAndDownWrite(device);
  await device.dmabufs.move(true);
  if (device.pmRuntimeEngaged) throw feature.error('EINVAL', 'it is in low power already');
  device.pmRuntimeEngaged = true;
  device.pmWakeEventfd = wakeup;
  // The request itself still uses the function; when it ends, nobody does.
  device.pdev.pm.putNoidle();
}

/** Source: drivers/vfio/pci/vfio_pci_core.c __vfio_pci_runtime_pm_exit() */
function leaveLowPower(device: PciCoreDevice): void {
  if (!device.pmRuntimeEngaged) return;
  device.pmRuntimeEngaged = false;
  device.pdev.pm.getNoresume();
  device.pmWakeEventfd?.put();
  device.pmWakeEventfd = undefined;
}

/**
 * The function is about to be suspended: it is brought to D0, from where the bus takes it further, and its pin is kept quiet.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_runtime_suspend()
 */
export async function runtimeSuspend(device: PciCoreDevice): Promise<void> {
  {
    using _held = await downWriteMemory(device);
    await trySetPowerState(device, PowerState.D0);
  }
  device.pmIntxMasked = device.irqs.type === 'intx' && device.irqs.intxMask();
}

/**
 * The function is awake again. Whoever wanted to know is told, which also ends low power.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_runtime_resume()
 */
export async function runtimeResume(device: PciCoreDevice): Promise<void> {
  {
    using _held = await downWriteMemory(device);
    if (device.pmWakeEventfd) {
      device.pmWakeEventfd.signal();
      leaveLowPower(device);
    }
  }
  if (device.pmIntxMasked) device.irqs.intxUnmask();
}
