/*
 * Writes to capabilities that stand for something else: a power state, words of the vital product data, and the messages of MSI,
 * which are enabled by a request and not here.
 */
import { isSystemError } from '@vfio/host';
import { writeConfigWord } from '../../bus/config.js';
import type { PciWidth } from '../../bus/function.js';
import { PowerState } from '../../bus/power-state.js';
import { Msi, Pm, Vpd } from '../../bus/regs.js';
import { readVpd, writeVpd } from '../../bus/vpd.js';
import { lockAndSetPowerState } from '../power.js';
import { type ConfigState, configUnblocked } from './config-state.js';

const QSIZE_SHIFT = 4;
const VPD_WORD = 4;
const powerStates = [PowerState.D0, PowerState.D1, PowerState.D2, PowerState.D3hot] as const;

/**
 * Writes to the power management capability: the state is changed by the bus.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_pm_config_write()
 */
export function writePm(state: ConfigState, at: number, width: PciWidth, value: number): undefined | Promise<void> {
  state.writeBits(at, width, value);
  if (at !== (state.map.start[at] ?? at) + Pm.CTRL) return undefined;
  return lockAndSetPowerState(state.device, powerStates[value & Pm.CTRL_STATE_MASK] ?? PowerState.D0);
}

/**
 * Writes to the vital product data: with the upper byte of the address, a word is read or written.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_vpd_config_write()
 */
export function writeVpdCap(state: ConfigState, at: number, width: PciWidth, value: number): undefined | Promise<void> {
  const start = state.map.start[at] ?? at;
  state.writeBits(at, width, value);
  const flagByte = start + Vpd.ADDR + 1;
  return at > flagByte || at + width <= flagByte ? undefined : transferVpd(state, start);
}

/** The flag is turned around when that is done; a user who waits for what has failed waits in vain. */
async function transferVpd({ pdev, vconfig }: ConfigState, start: number): Promise<void> {
  const address = vconfig.get(start + Vpd.ADDR, 2);
  const data = vconfig.bytes.slice(start + Vpd.DATA, start + Vpd.DATA + VPD_WORD);
  await configUnblocked(pdev);
  try {
    if ((address & Vpd.ADDR_F) !== 0) {
      if ((await writeVpd(pdev, address & Vpd.ADDR_MASK, data)) !== VPD_WORD) return;
    } else {
      // Behind the end there are zeros.
      data.fill(0);
      await readVpd(pdev, address, data);
      vconfig.bytes.set(data, start + Vpd.DATA);
    }
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return;
  }
  vconfig.set(start + Vpd.ADDR, 2, address ^ Vpd.ADDR_F);
}

/**
 * Writes to the MSI capability. It is enabled only while MSI is in use, for no more vectors than there are.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_msi_config_write()
 */
export function writeMsi(state: ConfigState, at: number, width: PciWidth, value: number): undefined | Promise<void> {
  const { pdev, device, vconfig, map, msiQmax } = state;
  const start = map.start[at] ?? at;
  const register = start + Msi.FLAGS;
  state.writeBits(at, width, value);
  if (at > register || at + width < register) return undefined;
  let flags = vconfig.get(register, 2);
  if (device.irqs.type !== 'msi') flags &= ~Msi.FLAGS_ENABLE;
  if ((flags & Msi.FLAGS_QSIZE) >> QSIZE_SHIFT > msiQmax) {
    flags = (flags & ~Msi.FLAGS_QSIZE) | (msiQmax << QSIZE_SHIFT);
  }
  vconfig.set(register, 2, flags);
  if (pdev.cfgBlocked === undefined) {
    writeConfigWord(pdev, register, flags);
    return undefined;
  }
  return configUnblocked(pdev).then(() => writeConfigWord(pdev, register, flags));
}
