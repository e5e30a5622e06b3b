/*
 * What the bus keeps of a physical function: read of its capability when it is found, and written to it again after a reset.
 */
import { PAGE_SIZE } from '@vfio/host';
import { updateResource } from './assign-resources.js';
import { readBase, resourceAt } from './bar-sizing.js';
import { findExtCapability } from './caps.js';
import { readConfigDword, readConfigWord, writeConfigDword, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { ExtCapId, ResourceIndex, Sriov } from './regs.js';

/** What the bus keeps of a physical function. Source: drivers/pci/pci.h struct pci_sriov */
export interface SriovState {
  /** Offset of the capability. */
  readonly cap: number;
  readonly totalVfs: number;
  /** Routing ids of virtual functions: the first one counted from the physical function, and from each to the next. */
  offset: number;
  stride: number;
  /** Device id of the virtual functions. */
  readonly vfDevice: number;
  /** The size of pages that the function was told. */
  readonly pageSize: number;
  /** What the control register has beside the switches. */
  control: number;
  numVfs: number;
  driversAutoprobe: boolean;
  /** Those that are there, by index. */
  readonly virtfns: PciDev[];
}

const SWITCHES = Sriov.CTRL_VFE | Sriov.CTRL_MSE;

/**
 * Reads the capability of a new function, and sizes the space that its virtual functions need. What can not be used is left alone.
 *
 * @source drivers/pci/iov.c pci_iov_init(), sriov_init()
 */
export function iovInit(pdev: PciDev): void {
  if (!pdev.isPcie || pdev.isVirtfn) return;
  const cap = findExtCapability(pdev, ExtCapId.SRIOV);
  if (cap === 0) return;
  if ((readConfigWord(pdev, cap + Sriov.CTRL) & Sriov.CTRL_VFE) !== 0) writeConfigWord(pdev, cap + Sriov.CTRL, 0);
  const { pciBus } = pdev;
  // The first physical function of a device decides for all whether numbers are routed without slots.
  const first = !pciBus.devices.some((other) => other.isPhysfn);
  const control = first && pciBus.ariEnabled ? Sriov.CTRL_ARI : 0;
  writeConfigWord(pdev, cap + Sriov.CTRL, control);
  const totalVfs = readConfigWord(pdev, cap + Sriov.TOTAL_VF);
  if (totalVfs === 0) return;
  const pages = readConfigDword(pdev, cap + Sriov.SUP_PGSIZE);
  const pageSize = pages & -pages;
  if (pageSize === 0) return;
  writeConfigDword(pdev, cap + Sriov.SYS_PGSIZE, pageSize);
  const state: SriovState = {
    cap,
    totalVfs,
    offset: 0,
    stride: 0,
    vfDevice: readConfigWord(pdev, cap + Sriov.VF_DID),
    pageSize,
    control,
    numVfs: 0,
    driversAutoprobe: true,
    virtfns: [],
  };
  if (!sizeBars(pdev, state) || !readNumbers(pdev, state)) return;
  pdev.sriov = state;
  pdev.isPhysfn = true;
}

/** A BAR of the capability is as large as that of one virtual function; there is one for each. */
function sizeBars(pdev: PciDev, { cap, totalVfs }: SriovState): boolean {
  for (let bar = 0; bar < Sriov.NUM_BARS; bar++) {
    const index = ResourceIndex.IOV + bar;
    const wide = readBase(pdev, index, cap + Sriov.BAR + 4 * bar);
    const resource = resourceAt(pdev, index);
    if (resource.size % PAGE_SIZE !== 0) return false;
    if (resource.size > 0) resource.end = resource.start + resource.size * totalVfs - 1;
    if (wide) bar++;
  }
  return true;
}

/** How virtual functions are numbered may depend on how many there are. Source: drivers/pci/iov.c compute_max_vf_buses() */
function readNumbers(pdev: PciDev, state: SriovState): boolean {
  setNumVfs(pdev, state, state.totalVfs);
  const { offset, stride, totalVfs } = state;
  writeConfigWord(pdev, state.cap + Sriov.NUM_VF, 0);
  return offset !== 0 && (totalVfs === 1 || stride !== 0);
}

/** Source: drivers/pci/iov.c pci_iov_set_numvfs() */
export function setNumVfs(pdev: PciDev, state: SriovState, count: number): void {
  const { cap } = state;
  writeConfigWord(pdev, cap + Sriov.NUM_VF, count);
  state.offset = readConfigWord(pdev, cap + Sriov.VF_OFFSET);
  state.stride = readConfigWord(pdev, cap + Sriov.VF_STRIDE);
}

/** The driver of a physical function is gone. Source: drivers/pci/iov.c pci_iov_remove() */
export function iovRemove(pdev: PciDev): void {
  if (numVf(pdev) > 0) pdev.pciHost.log.warn('driver left SR-IOV enabled after remove', `pci ${pdev.name}`);
}

/**
 * Switches the virtual functions of a function on again that was reset.
 *
 * @source drivers/pci/iov.c pci_restore_iov_state()
 */
export function restoreIovState(pdev: PciDev): void {
  const { sriov } = pdev;
  if (!sriov) return;
  const { cap, control, pageSize, numVfs: enabled } = sriov;
  if ((readConfigWord(pdev, cap + Sriov.CTRL) & Sriov.CTRL_VFE) !== 0) return;
  writeConfigWord(pdev, cap + Sriov.CTRL, control & Sriov.CTRL_ARI);
  for (let bar = 0; bar < Sriov.NUM_BARS; bar++) {
    const index = ResourceIndex.IOV + bar;
    if (resourceAt(pdev, index).parent) updateResource(pdev, index);
  }
  writeConfigDword(pdev, cap + Sriov.SYS_PGSIZE, pageSize);
  setNumVfs(pdev, sriov, enabled);
  writeConfigWord(pdev, cap + Sriov.CTRL, control);
}

/** Virtual functions that are enabled. Source: drivers/pci/iov.c pci_num_vf() */
export function numVf(pdev: PciDev): number {
  return pdev.sriov?.numVfs ?? 0;
}

/** The physical function of a virtual one, else itself. Source: include/linux/pci.h pci_physfn() */
export function physfn(pdev: PciDev): PciDev {
  return pdev.physfn ?? pdev;
}

/** Virtual functions begin, or stop, to answer, with their memory. */
export function switchVfs(pdev: PciDev, sriov: SriovState, on: boolean): void {
  sriov.control = on ? sriov.control | SWITCHES : sriov.control & ~SWITCHES;
  writeConfigWord(pdev, sriov.cap + Sriov.CTRL, sriov.control);
}
