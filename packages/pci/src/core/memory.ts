/*
 * Whether BARs answer, and the lock around that. Readers access BARs; whoever changes whether they answer (the command
 * register, a power state, a reset) writes, and takes mappings of users away first: they come back page by page.
 */
import { PciRegionIndex, REGION_STRIDE } from '@vfio/core';
import type { Held } from '@vfio/host';
import { readConfigWord, writeConfigWord } from '../bus/config.js';
import { PowerState } from '../bus/power-state.js';
import { Command, Reg } from '../bus/regs.js';
import type { PciCoreDevice } from './core-device.js';

/**
 * Whether memory BARs answer: the function is awake, and the user has not switched memory off.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c __vfio_pci_memory_enabled()
 */
export function memoryEnabled({ pdev, config }: PciCoreDevice): boolean {
  const { currentState, noCommandMemory } = pdev;
  if (currentState === 'unknown' || currentState >= PowerState.D3hot) return false;
  return noCommandMemory || config?.commandMemory === true;
}

/**
 * Takes the mappings of all BARs away from all users.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_zap_bars()
 */
export function zapBars(device: PciCoreDevice): void {
  device.mapping.zap(PciRegionIndex.BAR0 * REGION_STRIDE, PciRegionIndex.ROM * REGION_STRIDE);
}

/** Takes the memory lock for writing. */
export function downWriteMemory({ memoryLock }: PciCoreDevice): Promise<Held> {
  return memoryLock.write();
}

/**
 * Takes the memory lock for writing, and the mappings away.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_zap_and_down_write_memory_lock()
 */
export async function zapAndDownWrite(device: PciCoreDevice): Promise<Held> {
  const held = await device.memoryLock.write();
  zapBars(device);
  return held;
}

/**
 * Takes the memory lock for writing and has the function decode memory, whatever the user wants, until it is disposed of.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_memory_lock_and_enable(), vfio_pci_memory_unlock_and_restore()
 */
export async function memoryLockAndEnable({ memoryLock, pdev }: PciCoreDevice): Promise<Disposable> {
  const held = await memoryLock.write();
  const command = readConfigWord(pdev, Reg.COMMAND);
  if ((command & Command.MEMORY) === 0) writeConfigWord(pdev, Reg.COMMAND, command | Command.MEMORY);
  return {
    [Symbol.dispose]: () => {
      writeConfigWord(pdev, Reg.COMMAND, command);
      held.release();
    },
  };
}
