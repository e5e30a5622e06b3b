/*
 * The first open of a device: its function is switched on, reset, and taken stock of. The lock of its set is held.
 */
import { isSystemError, Undo } from '@vfio/host';
import { readConfigDword, readConfigWord, writeConfigWord } from '../bus/config.js';
import { clearMaster, disableDevice, enableDevice } from '../bus/enable.js';
import { intx, intxMaskSupported } from '../bus/intx.js';
import { msixCanAllocDyn } from '../bus/msi.js';
import type { PciDev } from '../bus/pci-dev.js';
import { Command, Msix, Reg } from '../bus/regs.js';
import { tryResetFunction } from '../bus/reset.js';
import { saveState, storeSavedState } from '../bus/state.js';
import { isVga } from '../bus/vga.js';
import { VirtualConfig } from './config/virtual-config.js';
import type { PciCoreDevice } from './core-device.js';
import { mapBars, probeMmaps } from './map-bars.js';

const INTEL = 0x8086;
/** Network functions of Intel whose interrupt pin does not work, first and last of each kind. */
const brokenPins: readonly (readonly [number, number])[] = [
  [0x1563, 0x1563],
  [0x1572, 0x1572],
  [0x1574, 0x1574],
  [0x1580, 0x1581],
  [0x1583, 0x158b],
  [0x37d0, 0x37d2],
];
/** The BAR of the MSI-X table in a function that has none. */
const NO_BAR = 0xff;

/**
 * `openDevice` of a driver that adds nothing.
 *
 * @throws as `enable`
 */
export async function openDevice(device: PciCoreDevice): Promise<void> {
  await enable(device);
  finishEnable(device);
}

/**
 * Switches the function on. A driver may then prepare what is its own, and calls `finishEnable`; if it can not, `coreDisable`.
 *
 * @throws EAGAIN - the function can not be reset now: somebody has its lock
 * @throws what waking and enabling it say, ENOMEM; all is as before then
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_enable()
 */
export async function enable(device: PciCoreDevice): Promise<void> {
  const { pdev, options } = device;
  await using undo = new Undo();
  if (!options.disableIdleD3) {
    await pdev.pm.resumeAndGet();
    undo.add(() => pdev.pm.put());
  }
  // The state that is saved here must not allow DMA when it is restored.
  clearMaster(pdev);
  await enableDevice(pdev);
  undo.add(() => disableDevice(pdev));
  device.resetWorks = await tryReset(pdev);
  saveState(pdev);
  device.pciSavedState = storeSavedState(pdev);
  undo.add(() => {
    device.pciSavedState = undefined;
  });
  probePin(device);
  // Which of its BARs has the table is known before the BARs are mapped.
  probeMsix(device);
  device.config = VirtualConfig.init(device);
  device.hasVga = isVga(pdev) && !options.disableVga;
  mapBars(device);
  undo.keep();
}

/**
 * Ends the open of a device: from now on it can be used.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_finish_enable()
 */
export function finishEnable(device: PciCoreDevice): void {
  probeMmaps(device);
  const token = device.sriovPfCoreDev?.vfToken;
  if (token) token.users++;
}

/** @returns whether it can be reset at all. @throws EAGAIN - not now */
async function tryReset(pdev: PciDev): Promise<boolean> {
  try {
    await tryResetFunction(pdev);
    return true;
  } catch (error) {
    if (!isSystemError(error) || error.code === 'EAGAIN') throw error;
    return false;
  }
}

/** How the interrupt pin can be masked, if it can be used at all. */
function probePin(device: PciCoreDevice): void {
  const { pdev, options } = device;
  if (!options.nointxmask) {
    if (hasBrokenPin(pdev)) {
      pdev.pciHost.log.info('Masking broken INTx support', pdev.logName());
      device.nointx = true;
      intx(pdev, false);
    } else device.pci23 = intxMaskSupported(pdev);
  }
  const command = readConfigWord(pdev, Reg.COMMAND);
  if (device.pci23 && (command & Command.INTX_DISABLE) !== 0) {
    writeConfigWord(pdev, Reg.COMMAND, command & ~Command.INTX_DISABLE);
  }
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_nointx() */
function hasBrokenPin({ vendor, deviceId }: PciDev): boolean {
  return vendor === INTEL && brokenPins.some(([first, last]) => deviceId >= first && deviceId <= last);
}

function probeMsix(device: PciCoreDevice): void {
  const { pdev } = device;
  const { msixCap } = pdev;
  device.msixBar = NO_BAR;
  device.msixOffset = 0;
  device.msixSize = 0;
  device.hasDynMsix = false;
  if (msixCap === 0) return;
  const flags = readConfigWord(pdev, msixCap + Msix.FLAGS);
  const table = readConfigDword(pdev, msixCap + Msix.TABLE);
  device.msixBar = table & Msix.BIR_MASK;
  device.msixOffset = (table & ~Msix.BIR_MASK) >>> 0;
  device.msixSize = ((flags & Msix.FLAGS_QSIZE) + 1) * Msix.ENTRY_SIZE;
  device.hasDynMsix = msixCanAllocDyn(pdev);
}
