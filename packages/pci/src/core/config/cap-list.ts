/*
 * The lists of capabilities as the user sees them: those without a length are taken out by changing the link before them. Their
 * bytes are still there, and belong to nobody.
 *
 * Differs: a capability that would reach beyond its part of config space ends there, and one inside of the header ends the list.
 */
import { readConfigByte, readConfigDword, readConfigWord } from '../../bus/config.js';
import { CapId, CFG_SPACE_SIZE, Msi, Pm, Reg, STD_HEADER_SIZE, Status } from '../../bus/regs.js';
import { capLength, extCapLength, hasPcix2 } from './cap-length.js';
import { Owner } from './config-map.js';
import type { ConfigState } from './config-state.js';

const CAP_NEXT = 1;
/** Bytes of the smallest capability; more than fit are a loop. */
const CAP_SIZE = 4;
const ID_BITS = 0xffff;
const NEXT_SHIFT = 20;
const NEXT_BITS = 0xffc;

/**
 * The first 256 bytes.
 *
 * @returns whether there may be extended capabilities: there is a capability that says so, and something at their start
 * @throws ENOMEM
 * @throws EFAULT - the length of a capability can not be read, which is at an odd address
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_cap_init()
 */
export function capInit(state: ConfigState): boolean {
  const { pdev, vconfig } = state;
  if ((readConfigWord(pdev, Reg.STATUS) & Status.CAP_LIST) === 0) return false;
  let at = readConfigByte(pdev, Reg.CAPABILITY_LIST);
  let link: number = Reg.CAPABILITY_LIST;
  let extended = false;
  const steps = (CFG_SPACE_SIZE - STD_HEADER_SIZE) / CAP_SIZE;
  for (let step = 0; step < steps && at >= STD_HEADER_SIZE; step++) {
    const id = readConfigByte(pdev, at);
    const next = at + CAP_NEXT < CFG_SPACE_SIZE ? readConfigByte(pdev, at + CAP_NEXT) : 0;
    const length = Math.min(capLength(pdev, id, at), CFG_SPACE_SIZE - at);
    if (length === 0) {
      hide(state, 'vfio_cap_init', `cap ${hex(id)}@${hex(at)}`);
      vconfig.set(link, 1, next);
    } else {
      assign(state, 'vfio_cap_init', id, at, length);
      if (id === CapId.MSI) addMsi(state, at);
      if (id === CapId.PM) hidePme(state, at);
      extended ||= id === CapId.EXP || (id === CapId.PCIX && hasPcix2(pdev, at));
      link = at + CAP_NEXT;
    }
    at = next;
  }
  if (link === Reg.CAPABILITY_LIST) {
    vconfig.set(Reg.STATUS, 2, vconfig.get(Reg.STATUS, 2) & ~Status.CAP_LIST);
  }
  return extended && pdev.cfgSize > CFG_SPACE_SIZE && readConfigDword(pdev, CFG_SPACE_SIZE) !== 0;
}

/** Source: drivers/vfio/pci/vfio_pci_config.c vfio_msi_cap_len() */
function addMsi({ pdev, map }: ConfigState, at: number): void {
  pdev.pciHost.faults.check('vfio_msi_cap_len:perm');
  map.setMsi(readConfigWord(pdev, at + Msi.FLAGS));
}

/** Wake events never reach the user. Source: drivers/vfio/pci/vfio_pci_config.c vfio_update_pm_vconfig_bytes() */
function hidePme({ vconfig }: ConfigState, at: number): void {
  const { PMC, CTRL, CAP_PME_MASK, CTRL_PME_ENABLE, CTRL_PME_STATUS } = Pm;
  vconfig.set(at + PMC, 2, vconfig.get(at + PMC, 2) & ~CAP_PME_MASK);
  vconfig.set(at + CTRL, 2, vconfig.get(at + CTRL, 2) & ~(CTRL_PME_ENABLE | CTRL_PME_STATUS));
}

/**
 * The extended capabilities. The list must begin at 0x100: what is hidden there stays as a link without a kind.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_ecap_init()
 */
export function ecapInit(state: ConfigState): void {
  const { pdev, vconfig } = state;
  let at = CFG_SPACE_SIZE;
  let last: number | undefined;
  let shown = 0;
  const steps = (pdev.cfgSize - CFG_SPACE_SIZE) / CAP_SIZE;
  for (let step = 0; step < steps && at >= CFG_SPACE_SIZE; step++) {
    const header = readConfigDword(pdev, at);
    const id = header & ID_BITS;
    const next = (header >>> NEXT_SHIFT) & NEXT_BITS;
    const length = Math.min(extCapLength(pdev, id, at), pdev.cfgSize - at);
    if (length === 0) hide(state, 'vfio_ecap_init', `ecap ${hex(id)}@${hex(at)}`);
    if (length === 0 && last !== undefined) {
      const before = vconfig.get(last, CAP_SIZE) & ~(NEXT_BITS << NEXT_SHIFT);
      vconfig.set(last, CAP_SIZE, before | (next << NEXT_SHIFT));
    } else {
      assign(state, 'vfio_ecap_init', id & 0xff, at, length === 0 ? CAP_SIZE : length);
      if (length === 0) vconfig.set(at, CAP_SIZE, next << NEXT_SHIFT);
      else shown++;
      last = at;
    }
    at = next;
  }
  if (shown === 0) vconfig.set(CFG_SPACE_SIZE, CAP_SIZE, 0);
}

/** Gives bytes to a capability; whoever had them loses them. */
function assign(state: ConfigState, by: string, id: number, at: number, length: number): void {
  const { owner } = state.map;
  for (let i = at; i < at + length; i++) {
    const had = owner[i] ?? Owner.NOBODY;
    if (had !== Owner.NOBODY) warnConflict(state, by, i, had, id);
  }
  owner.fill(id, at, at + length);
  state.fill(at, length);
}

function warnConflict({ pdev }: ConfigState, by: string, at: number, had: number, id: number): void {
  const conflict = `${by}: PCI config conflict @${hex(at)}, was cap ${hex(had)} now cap ${hex(id)}`;
  pdev.pciHost.log.warn(conflict, pdev.logName());
}

function hide({ pdev }: ConfigState, by: string, what: string): void {
  pdev.pciHost.log.debug(`${by}: hiding ${what}`, pdev.logName());
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
