/*
 * Resets: of one function by the best method that it has, of a slot, of a bus. Everybody who is reset loses its locks, its
 * users in config space wait, its state is saved before and restored after, and its driver hears of both.
 */
import { type Held, isSystemError, SystemError } from '@vfio/host';
import { writeConfigWord } from './config.js';
import type { PciBus, PciSlot } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';
import { pciDriverOf } from './pci-driver.js';
import { setPowerState } from './power.js';
import { PowerState } from './power-state.js';
import { Command, Reg } from './regs.js';
import { bridgeSecondaryBusReset, resetFunctionLocked, slotCanReset } from './reset-methods.js';
import { slotDevices } from './slots.js';
import { restoreState, saveState } from './state.js';

/** Takes the lock of a device and keeps users from its config space; undefined when somebody has it. Source: drivers/pci/pci.c pci_dev_trylock() */
export function devTrylock(pdev: PciDev): Held | undefined {
  if (pdev.cfgBlocked !== undefined) return undefined;
  const held = pdev.lock.tryLock();
  return held && new DevLock(pdev, held);
}

/** As `devTrylock`, waiting. Source: drivers/pci/pci.c pci_dev_lock() */
export async function devLock(pdev: PciDev): Promise<Held> {
  const held = await pdev.lock.lock();
  while (pdev.cfgBlocked !== undefined) await pdev.cfgBlocked;
  return new DevLock(pdev, held);
}

/** A device that is locked, with its config space kept from users. Source: drivers/pci/access.c pci_cfg_access_lock() */
class DevLock implements Held {
  readonly #pdev: PciDev;
  readonly #held: Held;
  #wake: () => void = () => {};

  constructor(pdev: PciDev, held: Held) {
    this.#pdev = pdev;
    this.#held = held;
    pdev.cfgBlocked = new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  release(): void {
    this.#held.release();
    this.#pdev.cfgBlocked = undefined;
    this.#wake();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** Several of them, given back last first. */
class DevLocks implements Held {
  readonly #locks: Held[] = [];

  /** @returns false - somebody has it; what was taken before is still held */
  tryTake(pdev: PciDev): boolean {
    const lock = devTrylock(pdev);
    if (lock) this.#locks.push(lock);
    return lock !== undefined;
  }

  release(): void {
    for (const lock of this.#locks.splice(0).reverse()) lock.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** The bridge above a function; that of a virtual one is above its physical one. Source: include/linux/pci.h pci_upstream_bridge() */
export function upstreamBridge(pdev: PciDev): PciDev | undefined {
  return (pdev.physfn ?? pdev).pciBus.self;
}

/**
 * Resets a function, with its state saved and restored and its driver told.
 *
 * @throws ENOTTY - it has no method
 * @throws EAGAIN - its lock, or that of the bridge above, is held
 * @throws what the method says
 * @source drivers/pci/pci.c pci_try_reset_function()
 */
export async function tryResetFunction(pdev: PciDev): Promise<void> {
  assertResettable(pdev);
  using locks = new DevLocks();
  const bridge = upstreamBridge(pdev);
  if ((bridge && !locks.tryTake(bridge)) || !locks.tryTake(pdev)) throw locked(pdev);
  await resetSaved(pdev);
}

/** As `tryResetFunction`, waiting for the locks. Source: drivers/pci/pci.c pci_reset_function() */
export async function resetFunction(pdev: PciDev): Promise<void> {
  assertResettable(pdev);
  const bridge = upstreamBridge(pdev);
  using _above = bridge && (await devLock(bridge));
  using _own = await devLock(pdev);
  await resetSaved(pdev);
}

async function resetSaved(pdev: PciDev): Promise<void> {
  await saveAndDisable(pdev);
  try {
    await resetFunctionLocked(pdev);
  } finally {
    await devRestore(pdev);
  }
}

/** Whether the functions of a slot can be reset together. Source: drivers/pci/pci.c pci_probe_reset_slot() */
export function probeResetSlot(slot: PciSlot | undefined): boolean {
  return slot !== undefined && slotCanReset(slot.hotplug);
}

/** Whether a bus can be reset: there is a bridge above. Source: drivers/pci/pci.c pci_probe_reset_bus() */
export function probeResetBus(bus: PciBus): boolean {
  return bus.self !== undefined;
}

/**
 * Resets the slot or the bus that a function is on, with everything below; states are saved and restored, drivers told.
 *
 * @throws ENOTTY - neither can be reset
 * @throws EAGAIN - the lock of a function, or of the bridge above, is held
 * @source drivers/pci/pci.c pci_reset_bus()
 */
export async function resetBus(pdev: PciDev): Promise<void> {
  const { slot, pciBus } = pdev;
  const { self } = pciBus;
  if (slot && probeResetSlot(slot)) {
    await resetTogether(pdev, self, slotDevices(slot), async () => await slot.hotplug?.resetSlot(false));
    return;
  }
  if (!self) throw new SystemError('ENOTTY', 'no bridge above it', { syscall: 'pci_reset_bus', subject: pdev.name });
  await resetTogether(pdev, self, pciBus.devices, () => bridgeSecondaryBusReset(self));
}

/** Source: drivers/pci/pci.c __pci_reset_slot(), __pci_reset_bus() */
async function resetTogether(
  pdev: PciDev,
  bridge: PciDev | undefined,
  devices: readonly PciDev[],
  reset: () => void | Promise<void>,
): Promise<void> {
  using locks = new DevLocks();
  if (bridge && !locks.tryTake(bridge)) throw locked(pdev);
  // Nobody comes or goes while they are locked: who is there now is who is restored.
  const all = withBelow(devices);
  if (!all.every((dev) => locks.tryTake(dev))) throw locked(pdev);
  const disabled: PciDev[] = [];
  try {
    for (const dev of all) {
      await saveAndDisable(dev);
      disabled.push(dev);
    }
    await reset();
  } finally {
    for (const dev of disabled) await devRestore(dev);
  }
}

/** Functions with everything on the buses below them; a bridge comes before what is behind it. */
function withBelow(devices: readonly PciDev[]): PciDev[] {
  return devices.flatMap((dev) => [dev, ...withBelow(dev.subordinate?.devices ?? [])]);
}

/**
 * Prepares a function for its reset: its driver is told, it is in D0, its state is kept, and it does nothing any more.
 *
 * @source drivers/pci/pci.c pci_dev_save_and_disable()
 */
async function saveAndDisable(pdev: PciDev): Promise<void> {
  await pciDriverOf(pdev)?.pci.errHandler?.resetPrepare?.(pdev);
  try {
    await setPowerState(pdev, PowerState.D0);
  } catch (error) {
    // A function that can not be woken is reset all the same.
    if (!isSystemError(error)) throw error;
  }
  saveState(pdev);
  writeConfigWord(pdev, Reg.COMMAND, Command.INTX_DISABLE);
}

/** Source: drivers/pci/pci.c pci_dev_restore() */
async function devRestore(pdev: PciDev): Promise<void> {
  restoreState(pdev);
  await pciDriverOf(pdev)?.pci.errHandler?.resetDone?.(pdev);
}

/** Source: include/linux/pci.h pci_reset_supported() */
function assertResettable(pdev: PciDev): void {
  if (pdev.resetMethods.length > 0) return;
  throw new SystemError('ENOTTY', 'no way to reset it', { syscall: 'pci_reset_function', subject: pdev.name });
}

function locked(pdev: PciDev): SystemError {
  return new SystemError('EAGAIN', 'somebody holds a lock that the reset needs', {
    syscall: 'pci_reset_function',
    subject: pdev.name,
  });
}
