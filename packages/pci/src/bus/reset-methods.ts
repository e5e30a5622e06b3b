/*
 * The ways to reset one function, each of which tells whether it can, and then does it. Nothing is saved here, and nobody told.
 *
 * Differs: hardware is ready at once after a reset, so nothing waits for it.
 */
import { isSystemError, SystemError } from '@vfio/host';
import { readConfigByte, readConfigDword, readConfigWord, writeConfigByte, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { pcieReadDword, pcieReadWord } from './pcie.js';
import { isDownstreamPort } from './ports.js';
import { PowerState } from './power-state.js';
import { Af, BridgeControl, BridgeReg, Exp, Pm } from './regs.js';

/** In the order in which they are tried. Source: drivers/pci/pci.c pci_reset_fn_methods */
export const resetMethodNames = ['device_specific', 'acpi', 'flr', 'af_flr', 'pm', 'bus', 'cxl_bus'] as const;
export type ResetMethod = (typeof resetMethodNames)[number];

/**
 * A reset that only functions of one kind know. Source: drivers/pci/quirks.c struct pci_dev_reset_methods
 *
 * @param probe - only says whether it could
 * @throws ENOTTY - it can not: other methods are tried
 */
export type SpecificReset = (pdev: PciDev, probe: boolean) => void | Promise<void>;

/** Throws ENOTTY when a method is not there; with `probe` that is all it does. */
type Method = (pdev: PciDev, probe: boolean) => void | Promise<void>;

const methods: Readonly<Record<ResetMethod, Method>> = {
  device_specific: (pdev, probe) => (pdev.specificReset ?? absent)(pdev, probe),
  // Neither this platform's firmware nor its buses have a way of their own.
  acpi: absent,
  flr: resetFlr,
  af_flr: resetAfFlr,
  pm: resetPm,
  bus: resetBusFunction,
  cxl_bus: absent,
};

/**
 * Finds the methods that a function has, when it is found: what comes to its bus later does not change them.
 *
 * @source drivers/pci/pci.c pci_init_reset_methods()
 */
export function initResetMethods(pdev: PciDev): void {
  pdev.resetMethods = resetMethodNames.filter((name) => hasMethod(pdev, name));
}

/** Whether a function has a method now. A `specificReset` tells at once. */
export function hasMethod(pdev: PciDev, name: ResetMethod): boolean {
  try {
    const answer = methods[name](pdev, true);
    if (answer instanceof Promise) throw new TypeError(`${name} of ${pdev.name} does not tell at once`);
    return true;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  }
}

/**
 * Resets a function whose lock the caller has; nothing is saved, nobody is told.
 *
 * @throws ENOTTY - it has no method
 * @throws what the first method says that does not refuse with ENOTTY
 * @source drivers/pci/pci.c __pci_reset_function_locked()
 */
export async function resetFunctionLocked(pdev: PciDev): Promise<void> {
  for (const name of pdev.resetMethods) {
    try {
      await methods[name](pdev, false);
      return;
    } catch (error) {
      if (!isSystemError(error, 'ENOTTY')) throw error;
    }
  }
  throw notThere(pdev, 'no way to reset it');
}

/**
 * Sets the reset bit of a bridge, and takes it back.
 *
 * @throws ENOTTY - it was reset, and its link does not come up again
 * @source drivers/pci/pci.c pci_bridge_secondary_bus_reset()
 */
export function bridgeSecondaryBusReset(bridge: PciDev): void {
  const control = readConfigWord(bridge, BridgeReg.BRIDGE_CONTROL);
  writeConfigWord(bridge, BridgeReg.BRIDGE_CONTROL, control | BridgeControl.BUS_RESET);
  writeConfigWord(bridge, BridgeReg.BRIDGE_CONTROL, control & ~BridgeControl.BUS_RESET);
  assertLinkIsUp(bridge);
}

/**
 * A fast link is looked at, if the port can tell. Functions without power management are not waited for, and so nothing is found
 * out about their link.
 *
 * @source drivers/pci/pci.c pci_bridge_wait_for_secondary_bus(), pcie_wait_for_link_delay()
 */
function assertLinkIsUp(bridge: PciDev): void {
  if (!bridge.subordinate?.devices.some(({ pmCap }) => pmCap !== 0)) return;
  if (!bridge.isPcie || !isDownstreamPort(bridge)) return;
  if ((pcieReadDword(bridge, Exp.LNKCAP2) & Exp.LNKCAP2_ABOVE_5GT) === 0) return;
  if ((pcieReadDword(bridge, Exp.LNKCAP) & Exp.LNKCAP_DLLLARC) === 0) return;
  if ((pcieReadWord(bridge, Exp.LNKSTA) & Exp.LNKSTA_DLLLA) !== 0) return;
  throw notThere(bridge, 'its link is not active');
}

/** Source: drivers/pci/pci.c pcie_reset_flr(), pcie_flr() */
export function resetFlr(pdev: PciDev, probe: boolean): void {
  if (!pdev.isPcie) throw notThere(pdev, 'not PCI Express');
  if ((readConfigDword(pdev, pdev.pcieCap + Exp.DEVCAP) & Exp.DEVCAP_FLR) === 0) throw notThere(pdev, 'no FLR');
  if (probe) return;
  const register = pdev.pcieCap + Exp.DEVCTL;
  writeConfigWord(pdev, register, readConfigWord(pdev, register) | Exp.DEVCTL_BCR_FLR);
}

/** Source: drivers/pci/pci.c pci_af_flr() */
function resetAfFlr(pdev: PciDev, probe: boolean): void {
  const both = Af.CAP_TP | Af.CAP_FLR;
  if (pdev.afCap === 0) throw notThere(pdev, 'no advanced features');
  if ((readConfigByte(pdev, pdev.afCap + Af.CAP) & both) !== both) throw notThere(pdev, 'no FLR');
  if (!probe) writeConfigByte(pdev, pdev.afCap + Af.CTRL, Af.CTRL_FLR);
}

/**
 * To D3hot and back: who does not say otherwise forgets all on that way.
 *
 * @throws EINVAL - it is not in D0
 * @source drivers/pci/pci.c pci_pm_reset()
 */
function resetPm(pdev: PciDev, probe: boolean): void {
  if (pdev.pmCap === 0) throw notThere(pdev, 'no power management');
  const register = pdev.pmCap + Pm.CTRL;
  const control = readConfigWord(pdev, register);
  if ((control & Pm.CTRL_NO_SOFT_RESET) !== 0) throw notThere(pdev, 'it keeps its state in D3hot');
  if (probe) return;
  if (pdev.currentState !== PowerState.D0) {
    throw new SystemError('EINVAL', 'not in D0', { syscall: 'pci_pm_reset', subject: pdev.name });
  }
  writeConfigWord(pdev, register, (control & ~Pm.CTRL_STATE_MASK) | PowerState.D3hot);
  writeConfigWord(pdev, register, (control & ~Pm.CTRL_STATE_MASK) | PowerState.D0);
}

/** By the slot that it has for itself, else by the bus. Source: drivers/pci/pci.c pci_reset_bus_function() */
async function resetBySlot(pdev: PciDev): Promise<boolean> {
  if (!hasSlotReset(pdev)) return false;
  await pdev.slot?.hotplug?.resetSlot(false);
  return true;
}

function resetBusFunction(pdev: PciDev, probe: boolean): void | Promise<void> {
  if (probe) {
    if (!hasSlotReset(pdev)) assertAlone(pdev);
    return;
  }
  return resetBySlotOrBus(pdev);
}

async function resetBySlotOrBus(pdev: PciDev): Promise<void> {
  if (!(await resetBySlot(pdev))) bridgeSecondaryBusReset(assertAlone(pdev));
}

/** Whether a function is all there is in a slot that can be reset. Source: drivers/pci/pci.c pci_dev_reset_slot_function() */
function hasSlotReset({ multifunction, subordinate, slot }: PciDev): boolean {
  return !multifunction && !subordinate && slot !== undefined && slotCanReset(slot.hotplug);
}

/** Whether a hotplug driver can reset its slot. Source: drivers/pci/pci.c pci_reset_hotplug_slot() */
export function slotCanReset(hotplug: NonNullable<PciDev['slot']>['hotplug']): boolean {
  if (!hotplug) return false;
  try {
    void hotplug.resetSlot(true);
    return true;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  }
}

/**
 * A bus that nobody else is on, which is reset by the bridge above.
 *
 * @throws ENOTTY - somebody else is on it, or there is no bridge
 * @source drivers/pci/pci.c pci_parent_bus_reset()
 */
function assertAlone(pdev: PciDev): PciDev {
  const { self, devices } = pdev.pciBus;
  if (!self) throw notThere(pdev, 'no bridge above it');
  if (pdev.subordinate) throw notThere(pdev, 'there is a bus below it');
  if (devices.some((other) => other !== pdev)) throw notThere(pdev, 'it is not alone on its bus');
  return self;
}

function absent(pdev: PciDev): never {
  throw notThere(pdev, 'no such method');
}

function notThere(pdev: PciDev, reason: string): SystemError {
  return new SystemError('ENOTTY', reason, { syscall: 'pci_reset_function', subject: pdev.name });
}
