/*
 * Resets that the user asks for in config space, and the size of read requests beside them.
 */
import { isSystemError } from '@vfio/host';
import { readConfigByte, readConfigDword } from '../../bus/config.js';
import type { PciWidth } from '../../bus/function.js';
import { pcieGetMps, pcieSetReadrq } from '../../bus/pcie.js';
import { Af, Exp } from '../../bus/regs.js';
import { tryResetFunction } from '../../bus/reset.js';
import { memoryEnabled, zapAndDownWrite } from '../memory.js';
import type { ConfigState } from './config-state.js';

const READRQ_SHIFT = 12;
const SMALLEST_READRQ = 128;
const AF_NEEDED = Af.CAP_TP | Af.CAP_FLR;

/**
 * Writes to the PCI Express capability. The bit that asks for a reset always reads as zero.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_exp_config_write()
 */
export function writeExp(state: ConfigState, at: number, width: PciWidth, value: number): undefined | Promise<void> {
  const { pdev, vconfig, map } = state;
  const start = map.start[at] ?? at;
  const register = start + Exp.DEVCTL;
  const before = vconfig.get(register, 2);
  state.writeBits(at, width, value);
  const after = vconfig.get(register, 2);
  const changed = ((before ^ after) & Exp.DEVCTL_READRQ) !== 0;
  if ((after & Exp.DEVCTL_BCR_FLR) === 0) {
    if (changed) setReadrq(state, after);
    return undefined;
  }
  vconfig.set(register, 2, after & ~Exp.DEVCTL_BCR_FLR);
  const resets = (readConfigDword(pdev, start + Exp.DEVCAP) & Exp.DEVCAP_FLR) !== 0;
  return (async () => {
    if (resets) await resetFunction(state);
    if (changed) setReadrq(state, after);
  })();
}

/** Below the payload of the machine a function would only be slow. More than there is stays with the user. */
function setReadrq({ pdev }: ConfigState, control: number): void {
  const wanted = SMALLEST_READRQ << ((control & Exp.DEVCTL_READRQ) >> READRQ_SHIFT);
  try {
    pcieSetReadrq(pdev, Math.max(wanted, pcieGetMps(pdev)));
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}

/**
 * Writes to the capability of advanced features.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_af_config_write()
 */
export function writeAf(state: ConfigState, at: number, width: PciWidth, value: number): undefined | Promise<void> {
  const { pdev, vconfig, map } = state;
  const start = map.start[at] ?? at;
  const register = start + Af.CTRL;
  state.writeBits(at, width, value);
  const control = vconfig.get(register, 1);
  if ((control & Af.CTRL_FLR) === 0) return undefined;
  vconfig.set(register, 1, control & ~Af.CTRL_FLR);
  const resets = (readConfigByte(pdev, start + Af.CAP) & AF_NEEDED) === AF_NEEDED;
  return resets ? resetFunction(state) : undefined;
}

/** By whatever method it has; that it may fail, the user can not be told. */
async function resetFunction({ device, pdev }: ConfigState): Promise<void> {
  using _held = await zapAndDownWrite(device);
  await device.dmabufs.move(true);
  try {
    await tryResetFunction(pdev);
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
  if (memoryEnabled(device)) await device.dmabufs.move(false);
}
