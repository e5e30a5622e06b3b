/*
 * Switching a function on and off.
 */
import { SystemError, Undo } from '@vfio/host';
import { readConfigWord, writeConfigWord } from './config.js';
import { enableIrq } from './intx-routing.js';
import type { PciDev } from './pci-dev.js';
import { setPowerState } from './power.js';
import { PowerState } from './power-state.js';
import { Command, Reg, ResourceIndex } from './regs.js';
import { ResourceFlag } from './resource-tree.js';

/**
 * Lets a function decode the resources that it has, and its bridges pass them on. Counted.
 *
 * @throws EINVAL - a resource has no address
 * @source drivers/pci/pci.c pci_enable_device()
 */
export async function enableDevice(pdev: PciDev): Promise<void> {
  if (pdev.enableCnt++ > 0) return;
  await using undo = new Undo();
  undo.add(() => {
    pdev.enableCnt--;
  });
  const bridge = pdev.pciBus.self;
  if (bridge) await enableBridge(bridge);
  await setPowerState(pdev, PowerState.D0);
  enableResources(pdev);
  enableIrq(pdev);
  if (!pdev.msi && pdev.pin !== 0) clearIntxDisable(pdev);
  undo.keep();
}

/** The last one clears bus mastering. Source: drivers/pci/pci.c pci_disable_device() */
export function disableDevice(pdev: PciDev): void {
  const { log } = pdev.pciHost;
  if (log.warnOn(pdev.enableCnt <= 0, `${pdev.name}: disabling already-disabled device`)) return;
  if (--pdev.enableCnt > 0) return;
  const command = readConfigWord(pdev, Reg.COMMAND);
  if ((command & Command.MASTER) !== 0) writeConfigWord(pdev, Reg.COMMAND, command & ~Command.MASTER);
  pdev.isBusmaster = false;
}

/** Source: drivers/pci/pci.c pci_set_master() */
export function setMaster(pdev: PciDev): void {
  setMasterBit(pdev, true);
}

/** Source: drivers/pci/pci.c pci_clear_master() */
export function clearMaster(pdev: PciDev): void {
  setMasterBit(pdev, false);
}

/** Source: drivers/pci/pci.c __pci_set_master() */
function setMasterBit(pdev: PciDev, enable: boolean): void {
  const old = readConfigWord(pdev, Reg.COMMAND);
  const command = enable ? old | Command.MASTER : old & ~Command.MASTER;
  if (command !== old) writeConfigWord(pdev, Reg.COMMAND, command);
  pdev.isBusmaster = enable;
}

/** A bridge passes on what is below it from the first function on that is enabled. Source: drivers/pci/pci.c pci_enable_bridge() */
async function enableBridge(bridge: PciDev): Promise<void> {
  if (bridge.enableCnt === 0) await enableDevice(bridge);
  if (!bridge.isBusmaster) setMaster(bridge);
}

/** Source: drivers/pci/setup-res.c pci_enable_resources() */
function enableResources(pdev: PciDev): void {
  const old = readConfigWord(pdev, Reg.COMMAND);
  let command = old;
  for (const [index, resource] of pdev.resource.entries()) {
    if (resource.size === 0 || index === ResourceIndex.ROM) continue;
    if (index >= ResourceIndex.IOV && index < ResourceIndex.BRIDGE) continue;
    if (!resource.parent && !pdev.isVirtfn) {
      throw new SystemError('EINVAL', `resource ${index} is not assigned`, {
        syscall: 'pci_enable_device',
        subject: pdev.name,
      });
    }
    command |= (resource.flags & ResourceFlag.IO) !== 0 ? Command.IO : Command.MEMORY;
  }
  if (command !== old) writeConfigWord(pdev, Reg.COMMAND, command);
}

function clearIntxDisable(pdev: PciDev): void {
  const command = readConfigWord(pdev, Reg.COMMAND);
  if ((command & Command.INTX_DISABLE) !== 0) writeConfigWord(pdev, Reg.COMMAND, command & ~Command.INTX_DISABLE);
}
