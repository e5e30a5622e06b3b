/*
 * Writes to the header, above all to the command register: memory may be switched off, which is known to whoever has mapped it;
 * hardware that was reset behind the user's back gets its BARs again; the pin is masked as the user wants.
 */
import {
  readConfigDword,
  readConfigWord,
  userReadConfig,
  writeConfigDword,
  writeConfigWord,
} from '../../bus/config.js';
import type { PciWidth } from '../../bus/function.js';
import { Command, Reg } from '../../bus/regs.js';
import { downWriteMemory, memoryEnabled, zapAndDownWrite, zapBars } from '../memory.js';
import { isBar } from './config-map.js';
import { barRegisters, type ConfigState, configUnblocked } from './config-state.js';

const DECODES = Command.MEMORY | Command.IO;

/**
 * Writes to the header.
 *
 * @returns a promise where others have to be told
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_basic_config_write()
 */
export function writeHeader(state: ConfigState, at: number, width: PciWidth, value: number): undefined | Promise<void> {
  if (at === Reg.COMMAND) return writeCommand(state, width, value);
  state.writeBits(at, width, value);
  if (isBar(at)) state.barDirty = true;
  return at === Reg.COMMAND + 1 ? emulateIntxDisable(state) : undefined;
}

/** Mostly nobody is in the way and nobody has to be told: then there is nothing to wait for. */
function writeCommand(state: ConfigState, width: PciWidth, value: number): undefined | Promise<void> {
  const { device, pdev } = state;
  const alone = pdev.cfgBlocked === undefined && device.dmabufs.size === 0;
  const held = alone ? device.memoryLock.tryWrite() : undefined;
  if (!held) return writeCommandLater(state, width, value);
  try {
    if ((value & Command.MEMORY) === 0) zapBars(device);
    changeCommand(state, width, value, readConfigWord(pdev, Reg.COMMAND));
  } finally {
    held.release();
  }
  return emulateIntxDisable(state);
}

async function writeCommandLater(state: ConfigState, width: PciWidth, value: number): Promise<void> {
  const { device, pdev } = state;
  const physical = await userReadConfig(pdev, Reg.COMMAND, 2);
  {
    using _held = await ((value & Command.MEMORY) === 0 ? zapAndDownWrite(device) : downWriteMemory(device));
    if ((value & Command.MEMORY) === 0) await device.dmabufs.move(true);
    await configUnblocked(pdev);
    changeCommand(state, width, value, physical);
    if (memoryEnabled(device)) await device.dmabufs.move(false);
  }
  await emulateIntxDisable(state);
}

/** @param physical - what the hardware had before */
function changeCommand(state: ConfigState, width: PciWidth, value: number, physical: number): void {
  const { vconfig } = state;
  if (wasReset(state, physical, value)) restoreBars(state);
  state.writeBits(Reg.COMMAND, width, value);
  vconfig.set(Reg.COMMAND, 2, (vconfig.get(Reg.COMMAND, 2) & ~DECODES) | (value & DECODES));
}

/**
 * Whether somebody has reset the hardware: what the user has switched on is off, or a BAR is not where it was.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_basic_config_write(), vfio_need_bar_restore()
 */
function wasReset({ pdev, vconfig, savedBars }: ConfigState, physical: number, value: number): boolean {
  const lost = value & vconfig.get(Reg.COMMAND, 2) & ~physical;
  if ((lost & Command.MEMORY) !== 0 && !pdev.noCommandMemory) return true;
  if ((lost & Command.IO) !== 0) return true;
  return barRegisters.some((register, index) => {
    const saved = savedBars[index] ?? 0;
    return register !== Reg.ROM_ADDRESS && saved !== 0 && readConfigDword(pdev, register) !== saved;
  });
}

/** Virtual functions have no BARs to restore. Source: drivers/vfio/pci/vfio_pci_config.c vfio_bar_restore() */
function restoreBars({ device, pdev, savedBars }: ConfigState): void {
  if (pdev.isVirtfn) return;
  pdev.pciHost.log.info('vfio_bar_restore: reset recovery - restoring BARs', pdev.logName());
  for (const [index, register] of barRegisters.entries()) writeConfigDword(pdev, register, savedBars[index] ?? 0);
  if (device.nointx) {
    writeConfigWord(pdev, Reg.COMMAND, readConfigWord(pdev, Reg.COMMAND) | Command.INTX_DISABLE);
  }
}

/** The pin is masked or unmasked when the user's bit changes, whoever else has masked it. */
function emulateIntxDisable({ device, vconfig }: ConfigState): undefined | Promise<void> {
  const disabled = (vconfig.get(Reg.COMMAND, 2) & Command.INTX_DISABLE) !== 0;
  if (disabled === device.virqDisabled) return undefined;
  device.virqDisabled = disabled;
  return (async () => {
    using _held = await device.igate.lock();
    if (disabled) device.irqs.intxMask();
    else device.irqs.intxUnmask();
  })();
}
