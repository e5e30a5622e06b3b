/*
 * Power states of functions, and what suspending one at runtime means.
 *
 * Differs: hardware is in its new state at once, so nothing waits for it.
 */
import { DeviceWakeup, isSystemError, RuntimePm, type RuntimePmOps, SystemError } from '@vfio/host';
import { updateResource } from './assign-resources.js';
import { readConfigWord, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { PowerState, powerName } from './power-state.js';
import { Pm, ResourceIndex } from './regs.js';
import { restoreState, saveState } from './state.js';

/** What a register reads as when nobody answers. */
const GONE = 0xffff;

/**
 * Moves a function to a state that it has; one without power management is in D0.
 *
 * @throws EIO - it did not get there, or can not
 * @throws EINVAL - not reachable from the present state: up is possible to D0 only
 * @source drivers/pci/pci.c pci_set_power_state()
 */
export async function setPowerState(pdev: PciDev, state: PowerState): Promise<void> {
  if (pdev.currentState === state) return;
  if (state === PowerState.D0) {
    powerUp(pdev);
    return;
  }
  lowPower(pdev, state === PowerState.D3cold ? PowerState.D3hot : state);
  // Power is taken away by the platform, and this one has no means to.
  if (state === PowerState.D3cold) throw failure('EIO', pdev, 'the platform does not switch its power off');
}

/** Reads the state that a function is in. Source: drivers/pci/pci.c pci_update_current_state() */
export function updateCurrentState(pdev: PciDev): void {
  if (pdev.disconnected) pdev.currentState = PowerState.D3cold;
  else if (pdev.pmCap === 0) pdev.currentState = PowerState.D0;
  else pdev.currentState = stateOf(readConfigWord(pdev, pdev.pmCap + Pm.CTRL));
}

/** Source: drivers/pci/pci.c pci_power_up(), pci_set_full_power_state() */
function powerUp(pdev: PciDev): void {
  if (pdev.pmCap === 0) {
    pdev.currentState = PowerState.D0;
    return;
  }
  const control = readControl(pdev);
  const before = stateOf(control);
  if (before !== PowerState.D0) {
    writeConfigWord(pdev, pdev.pmCap + Pm.CTRL, control & ~Pm.CTRL_STATE_MASK);
    pdev.currentState = stateOf(readControl(pdev));
    if (pdev.currentState !== PowerState.D0) throw failure('EIO', pdev, `stays in ${powerName(pdev.currentState)}`);
    // Who is reset on the way up has lost its addresses.
    if (before === PowerState.D3hot && (control & Pm.CTRL_NO_SOFT_RESET) === 0) restoreBars(pdev);
  }
  pdev.currentState = PowerState.D0;
}

/** Source: drivers/pci/pci.c pci_set_low_power_state() */
function lowPower(pdev: PciDev, state: PowerState): void {
  const { currentState, pmCap } = pdev;
  if (currentState === state) return;
  if (pmCap === 0) throw failure('EIO', pdev, 'it has no power management');
  if (currentState !== 'unknown' && currentState > state) {
    throw failure('EINVAL', pdev, `${powerName(state)} can not be reached from ${powerName(currentState)}`);
  }
  const capabilities = readConfigWord(pdev, pmCap + Pm.PMC);
  const missing =
    (state === PowerState.D1 && (capabilities & Pm.CAP_D1) === 0) ||
    (state === PowerState.D2 && (capabilities & Pm.CAP_D2) === 0);
  if (missing) throw failure('EIO', pdev, `it has no ${powerName(state)}`);
  const control = readControl(pdev);
  writeConfigWord(pdev, pmCap + Pm.CTRL, (control & ~Pm.CTRL_STATE_MASK) | state);
  pdev.currentState = stateOf(readControl(pdev));
  if (pdev.currentState === state) return;
  pdev.pciHost.log.warn(
    `refused to change power state from ${powerName(currentState)} to ${powerName(state)}`,
    `pci ${pdev.name}`,
  );
}

/** @throws EIO - nobody answers */
function readControl(pdev: PciDev): number {
  const control = readConfigWord(pdev, pdev.pmCap + Pm.CTRL);
  if (control !== GONE) return control;
  pdev.currentState = PowerState.D3cold;
  throw failure('EIO', pdev, 'it does not answer');
}

function stateOf(control: number): PowerState {
  const bits = control & Pm.CTRL_STATE_MASK;
  return bits === 0 ? PowerState.D0 : bits === 1 ? PowerState.D1 : bits === 2 ? PowerState.D2 : PowerState.D3hot;
}

/** Source: drivers/pci/pci.c pci_restore_bars() */
function restoreBars(pdev: PciDev): void {
  if (pdev.isVirtfn) return;
  for (let index = 0; index <= ResourceIndex.ROM; index++) {
    if (pdev.resource[index]?.parent) updateResource(pdev, index);
  }
}

/**
 * Makes the runtime power management of a new function: active, and on until somebody allows otherwise.
 *
 * @source drivers/pci/pci.c pci_pm_init()
 */
export function runtimePmInit(pdev: PciDev): RuntimePm {
  const ops: RuntimePmOps = {
    suspend: async () => await runtimeSuspend(pdev),
    resume: async () => await runtimeResume(pdev),
  };
  const pm = new RuntimePm({ name: pdev.name, clock: pdev.pciHost.clock, ops });
  pm.forbidInitially();
  pm.enable();
  return pm;
}

/**
 * One more user of a function, for whom it is awake if it can be: one that does not wake up goes on like any other.
 *
 * @source drivers/pci/pci-driver.c local_pci_probe(), pci_device_remove(), drivers/pci/pcie/err.c pci_pm_runtime_get_sync()
 */
export async function getAwake({ pm }: PciDev): Promise<void> {
  try {
    await pm.getSync();
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}

/**
 * A function that can signal a power management event in some state can wake the machine up, once an administrator lets it.
 *
 * @source drivers/pci/pci.c pci_pm_init()
 */
export function wakeupInit(pdev: PciDev): void {
  if (pdev.pmCap === 0) return;
  if ((readConfigWord(pdev, pdev.pmCap + Pm.PMC) & Pm.CAP_PME_MASK) === 0) return;
  pdev.wakeup = new DeviceWakeup(pdev.pciHost.devices.wakeupSources);
  const control = readConfigWord(pdev, pdev.pmCap + Pm.CTRL);
  // What was signalled before is over, and nothing more is until somebody waits for it.
  writeConfigWord(pdev, pdev.pmCap + Pm.CTRL, (control | Pm.CTRL_PME_STATUS) & ~Pm.CTRL_PME_ENABLE);
}

/**
 * The driver prepares, then the function goes to sleep, with its state saved unless the driver has done so. One without a
 * driver only saves its state.
 *
 * @source drivers/pci/pci-driver.c pci_pm_runtime_suspend()
 */
async function runtimeSuspend(pdev: PciDev): Promise<void> {
  if (!pdev.driver) {
    saveState(pdev);
    return;
  }
  pdev.stateSaved = false;
  await pdev.runtimeOps?.suspend?.();
  if (pdev.stateSaved) return;
  saveState(pdev);
  if (pdev.pmCap !== 0) await setPowerState(pdev, PowerState.D3hot);
}

/** Source: drivers/pci/pci-driver.c pci_pm_runtime_resume() */
async function runtimeResume(pdev: PciDev): Promise<void> {
  if (pdev.currentState !== PowerState.D0) await setPowerState(pdev, PowerState.D0);
  restoreState(pdev);
  if (pdev.driver) await pdev.runtimeOps?.resume?.();
}

function failure(code: 'EIO' | 'EINVAL', pdev: PciDev, reason: string): SystemError {
  return new SystemError(code, reason, { syscall: 'pci_set_power_state', subject: pdev.name });
}
