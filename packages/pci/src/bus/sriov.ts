/*
 * Virtual functions: made and removed at runtime by the driver of the physical one. Here is what is kept of a physical function,
 * and how virtual ones are switched on and off; `virtfn.ts` makes a device of each.
 *
 * Differs: virtual functions answer at once when they are switched on, so nothing waits for them.
 */
import { type ErrnoCode, PAGE_SIZE, SystemError, Undo } from '@vfio/host';
import { updateResource } from './assign-resources.js';
import { readBase, resourceAt } from './bar-sizing.js';
import { findExtCapability } from './caps.js';
import { readConfigDword, readConfigWord, writeConfigDword, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { ExtCapId, ResourceIndex, Sriov } from './regs.js';
import { addVirtfn, removeVirtfn } from './virtfn.js';

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

/** Virtual functions can be moved between physical ones. */
const CAP_VFM = 0x1;
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
function setNumVfs(pdev: PciDev, state: SriovState, count: number): void {
  const { cap } = state;
  writeConfigWord(pdev, cap + Sriov.NUM_VF, count);
  state.offset = readConfigWord(pdev, cap + Sriov.VF_OFFSET);
  state.stride = readConfigWord(pdev, cap + Sriov.VF_STRIDE);
}

/**
 * Makes virtual functions appear, groups and drivers included.
 *
 * @throws ENOSYS - not a physical function
 * @throws EINVAL - some are enabled already, or it has not so many
 * @throws EIO - the capability contradicts itself
 * @throws ENOMEM - their BARs have no addresses, their bus has no number, or there is no memory
 * @source drivers/pci/iov.c pci_enable_sriov(), sriov_enable()
 */
export async function enableSriov(pdev: PciDev, count: number): Promise<void> {
  const { sriov } = pdev;
  if (!sriov) throw failure('ENOSYS', pdev, 'not a physical function');
  if (count === 0) return;
  assertEnable(pdev, sriov, count);
  await using undo = new Undo();
  setNumVfs(pdev, sriov, count);
  undo.add(() => setNumVfs(pdev, sriov, 0));
  switchVfs(pdev, sriov, true);
  undo.add(() => switchVfs(pdev, sriov, false));
  for (let index = 0; index < count; index++) {
    await addVirtfn(pdev, sriov, index);
    undo.add(async () => await removeVirtfn(pdev, sriov, index));
  }
  undo.keep();
  pdev.pciHost.devices.uevent(pdev, 'change');
  sriov.numVfs = count;
}

/** Whether so many can be enabled now. */
function assertEnable(pdev: PciDev, sriov: SriovState, count: number): void {
  const { cap, totalVfs, numVfs: enabled } = sriov;
  if (enabled > 0) throw failure('EINVAL', pdev, `${enabled} are enabled`);
  const initial = readConfigWord(pdev, cap + Sriov.INITIAL_VF);
  const movable = (readConfigDword(pdev, cap + Sriov.CAP) & CAP_VFM) !== 0;
  if (initial > totalVfs || (!movable && initial !== totalVfs)) {
    throw failure('EIO', pdev, `${initial} of ${totalVfs} at first`);
  }
  if (count < 0 || count > totalVfs) throw failure('EINVAL', pdev, `${count} of ${totalVfs}`);
  for (let bar = 0; bar < Sriov.NUM_BARS; bar++) {
    const { size, parent } = resourceAt(pdev, ResourceIndex.IOV + bar);
    if (size > 0 && !parent) throw failure('ENOMEM', pdev, 'not enough MMIO resources for SR-IOV');
  }
  const last = (pdev.rid + sriov.offset + sriov.stride * (count - 1)) >> 8;
  if (last > pdev.pciBus.subordinate) throw failure('ENOMEM', pdev, `bus ${last.toString(16)} is out of range`);
}

/** Virtual functions begin, or stop, to answer, with their memory. */
function switchVfs(pdev: PciDev, sriov: SriovState, on: boolean): void {
  sriov.control = on ? sriov.control | SWITCHES : sriov.control & ~SWITCHES;
  writeConfigWord(pdev, sriov.cap + Sriov.CTRL, sriov.control);
}

/**
 * Takes all virtual functions away, drivers first; waits for those who use them.
 *
 * @source drivers/pci/iov.c pci_disable_sriov(), sriov_disable()
 */
export async function disableSriov(pdev: PciDev): Promise<void> {
  const { sriov } = pdev;
  if (!sriov || sriov.numVfs === 0) return;
  for (let index = 0; index < sriov.numVfs; index++) await removeVirtfn(pdev, sriov, index);
  switchVfs(pdev, sriov, false);
  sriov.numVfs = 0;
  setNumVfs(pdev, sriov, 0);
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

function failure(code: ErrnoCode, pdev: PciDev, reason: string): SystemError {
  return new SystemError(code, reason, { syscall: 'pci_enable_sriov', subject: pdev.name });
}
