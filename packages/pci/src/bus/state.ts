/*
 * What a reset makes a function forget, kept by the kernel and written back: its header, and those registers of capabilities
 * that software sets. Interrupt messages and virtual functions are written as the kernel remembers them.
 */
import { SystemError } from '@vfio/host';
import { enableAcs } from './acs.js';
import { clearAerStatus } from './aer-state.js';
import { findCapability, findExtCapability } from './caps.js';
import { readConfig, readConfigDword, writeConfig, writeConfigDword } from './config.js';
import type { PciWidth } from './function.js';
import { restoreIovState } from './iov.js';
import { restoreMsiState } from './msi.js';
import { restorePasidState } from './pasid.js';
import type { PciDev } from './pci-dev.js';
import { CapId, Err, Exp, ExpType, ExtCapId, HeaderType, Pcix, Reg } from './regs.js';

/** @internal registers by offset, as `saveState` read them */
export interface SavedState {
  readonly header: readonly number[];
  /** By capability: its registers. */
  readonly caps: ReadonlyMap<number, readonly number[]>;
}

/** A copy that a driver keeps beside the device's own. Source: drivers/pci/pci.c struct pci_saved_state */
export type StoredState = SavedState;

const HEADER_DWORDS = 16;
/** The dword with cache line size, latency timer, header type and the register that starts a self test. */
const BIST_DWORD = Reg.CACHE_LINE_SIZE / 4;
const BIST_MASK = 0xff00_0000;
/** LTR capability: largest latencies, snooped and not. */
const LTR_LATENCIES = 4;
/** AER capability of root ports: which messages raise an interrupt. */
const ERR_ROOT_COMMAND = 0x2c;

/** A register of a capability. */
interface SavedRegister {
  readonly offset: number;
  readonly width: PciWidth;
}

/** Registers of a capability that a function has. */
interface SavedCap {
  readonly at: number;
  readonly registers: readonly SavedRegister[];
}

/**
 * Keeps the state of a function, until it is restored.
 *
 * @source drivers/pci/pci.c pci_save_state()
 */
export function saveState(pdev: PciDev): void {
  const header = Array.from({ length: HEADER_DWORDS }, (_, dword) => readConfigDword(pdev, 4 * dword));
  const caps = new Map<number, readonly number[]>();
  for (const { at, registers } of savedCaps(pdev)) {
    caps.set(
      at,
      registers.map(({ offset, width }) => readConfig(pdev, at + offset, width)),
    );
  }
  pdev.savedState = { header, caps };
  pdev.stateSaved = true;
}

/** Nothing happens unless a state was saved. Source: drivers/pci/pci.c pci_restore_state() */
export function restoreState(pdev: PciDev): void {
  const saved = pdev.savedState;
  if (!pdev.stateSaved || !saved) return;
  clearAerStatus(pdev);
  for (const { at, registers } of savedCaps(pdev)) {
    const values = saved.caps.get(at);
    for (const [index, { offset, width }] of registers.entries()) {
      const value = values?.[index];
      if (value !== undefined) writeConfig(pdev, at + offset, width, value);
    }
  }
  restorePasidState(pdev);
  restoreHeader(pdev, saved.header);
  restoreMsiState(pdev);
  enableAcs(pdev);
  restoreIovState(pdev);
  pdev.stateSaved = false;
}

/** @returns undefined when nothing was saved. Source: drivers/pci/pci.c pci_store_saved_state() */
export function storeSavedState(pdev: PciDev): StoredState | undefined {
  return pdev.stateSaved ? pdev.savedState : undefined;
}

/**
 * Makes a copy the device's saved state; without one there is none.
 *
 * @throws EINVAL - the copy is not of this device
 * @source drivers/pci/pci.c pci_load_saved_state()
 */
export function loadSavedState(pdev: PciDev, stored: StoredState | undefined): void {
  pdev.stateSaved = false;
  if (!stored) return;
  const own = new Map(savedCaps(pdev).map(({ at, registers }) => [at, registers.length]));
  for (const [at, values] of stored.caps) {
    if (own.get(at) === values.length) continue;
    throw new SystemError('EINVAL', `it has no capability at 0x${at.toString(16)} as the state does`, {
      syscall: 'pci_load_saved_state',
      subject: pdev.name,
    });
  }
  pdev.savedState = stored;
  pdev.stateSaved = true;
}

/**
 * From the end to the beginning, so that addresses are there before the command register lets them be decoded. What is right
 * already is not written. In a bridge, the registers between are its windows, which go in one order.
 *
 * @source drivers/pci/pci.c pci_restore_config_space()
 */
function restoreHeader(pdev: PciDev, header: readonly number[]): void {
  for (let dword = HEADER_DWORDS - 1; dword >= 0; dword--) {
    // Ids never change, but reading them again tells whether the function is there.
    const mask = dword === BIST_DWORD ? ~BIST_MASK : ~0;
    const wanted = ((header[dword] ?? 0) & mask) >>> 0;
    // Windows of a bridge are written in any case: a write of one half may have changed the other.
    const always = pdev.hdrType === HeaderType.BRIDGE && dword >= 9 && dword <= 11;
    if (!always && readConfigDword(pdev, 4 * dword) >>> 0 === wanted) continue;
    writeConfigDword(pdev, 4 * dword, wanted);
  }
}

/** What of a function's capabilities is saved. */
function savedCaps(pdev: PciDev): SavedCap[] {
  const caps: SavedCap[] = [];
  if (pdev.isPcie) caps.push({ at: pdev.pcieCap, registers: pcieRegisters(pdev).map(word) });
  const pcix = findCapability(pdev, CapId.PCIX);
  if (pcix !== 0) caps.push({ at: pcix, registers: [word(Pcix.CMD)] });
  const ltr = findExtCapability(pdev, ExtCapId.LTR);
  if (ltr !== 0) caps.push({ at: ltr, registers: [dword(LTR_LATENCIES)] });
  const err = findExtCapability(pdev, ExtCapId.ERR);
  if (err !== 0) {
    const masks = [Err.UNCOR_MASK, Err.UNCOR_SEVER, Err.COR_MASK, Err.CAP];
    const root = pdev.pcieType === ExpType.ROOT_PORT || pdev.pcieType === ExpType.RC_EC ? [ERR_ROOT_COMMAND] : [];
    caps.push({ at: err, registers: [...masks, ...root].map(dword) });
  }
  return caps;
}

/** Source: drivers/pci/pci.c pci_save_pcie_state() */
function pcieRegisters({ pcieType, pcieFlags }: PciDev): number[] {
  const { ROOT_PORT, DOWNSTREAM, PCIE_BRIDGE, RC_END, RC_EC } = ExpType;
  const registers: number[] = [Exp.DEVCTL];
  const hasLink = pcieType !== RC_END && pcieType !== RC_EC;
  const slot =
    [ROOT_PORT, DOWNSTREAM, PCIE_BRIDGE].some((type) => type === pcieType) && (pcieFlags & Exp.FLAGS_SLOT) !== 0;
  if (hasLink) registers.push(Exp.LNKCTL);
  if (slot) registers.push(Exp.SLTCTL);
  if (pcieType === ROOT_PORT || pcieType === RC_EC) registers.push(Exp.RTCTL);
  if ((pcieFlags & Exp.FLAGS_VERS) > 1) registers.push(Exp.DEVCTL2, ...(hasLink ? [Exp.LNKCTL2] : []));
  return registers;
}

const word = (offset: number): SavedRegister => ({ offset, width: 2 });
const dword = (offset: number): SavedRegister => ({ offset, width: 4 });
