/*
 * Virtual functions: made and removed at runtime by the driver of the physical one.
 *
 * Differs: virtual functions answer at once when they are switched on, so nothing waits for them.
 */
import { type ErrnoCode, SystemError, Undo } from '@vfio/host';
import { resourceAt } from './bar-sizing.js';
import { readConfigDword, readConfigWord } from './config.js';
import { type SriovState, setNumVfs, switchVfs } from './iov.js';
import type { PciDev } from './pci-dev.js';
import { ResourceIndex, Sriov } from './regs.js';
import { addVirtfn, removeVirtfn } from './virtfn.js';

/** Virtual functions can be moved between physical ones. */
const CAP_VFM = 0x1;

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

/**
 * What a driver does that has nothing to add, when somebody writes `sriov_numvfs`.
 *
 * @param count - 0 takes all away
 * @returns how many there are now
 * @throws what `enableSriov` says
 * @source drivers/pci/iov.c pci_sriov_configure_simple()
 */
export async function sriovConfigureSimple(pdev: PciDev, count: number): Promise<number> {
  if (count === 0) await disableSriov(pdev);
  else await enableSriov(pdev, count);
  return count;
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

function failure(code: ErrnoCode, pdev: PciDev, reason: string): SystemError {
  return new SystemError(code, reason, { syscall: 'pci_enable_sriov', subject: pdev.name });
}
