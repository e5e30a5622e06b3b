/*
 * Resets of all functions of a slot or a bus: who is concerned, whether the caller has all of them, and the reset itself.
 */
import {
  copyArgsz,
  deviceCdevOpened,
  fileHasDev,
  fileIsGroup,
  type GroupFile,
  type IommufdContext,
  iommufdDeviceIctx,
  iommufdGetDevId,
  isVfioError,
  PciDevid,
  PciHotResetFlag,
  pciDependentDevice,
  pciHotReset,
  pciHotResetInfo,
  type VfioDevice,
} from '@vfio/core';
import { type File, type IoctlCall, Undo } from '@vfio/host';
import type { PciDev } from '../bus/pci-dev.js';
import { PowerState } from '../bus/power-state.js';
import { resetBus } from '../bus/reset.js';
import type { PciCoreDevice } from './core-device.js';
import { affectedBy, canResetTogether, devSetPmGet, devSetResettable, members } from './device-set.js';
import { memoryEnabled, zapBars } from './memory.js';
import { failure } from './pci-failure.js';
import { trySetPowerState } from './power.js';
import { setOf } from './set-of.js';

const INFO = 'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO';
const RESET = 'VFIO_DEVICE_PCI_HOT_RESET';
/** Bytes before the array of either request. */
const HEAD = 12;
const FD_SIZE = 4;

/**
 * VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: the functions that would be reset, and what the caller has to have for that.
 *
 * @throws EINVAL - `argsz` is too small
 * @throws ENODEV - neither slot nor bus can be reset
 * @throws ENOSPC - there are more than the caller has room for: the count is written
 * @throws EPERM - one of them is in no group
 * @throws EAGAIN - there are more than a moment before
 * @throws EFAULT
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_get_pci_hot_reset_info()
 */
export async function ioctlGetPciHotResetInfo(device: PciCoreDevice, call: IoctlCall): Promise<number> {
  const { pdev } = device;
  const { argsz } = pciHotResetInfo.decode(copyArgsz(call, HEAD), call.order);
  if (!canResetTogether(pdev)) throw failure('ENODEV', pdev, 'neither slot nor bus can be reset', INFO);
  const count = affectedBy(pdev).length;
  const answer = (flags: number, devices: number) =>
    call.copyOut(pciHotResetInfo.encode({ argsz, flags, count: devices }, call.order).subarray(0, HEAD));
  const room = Math.floor((argsz - HEAD) / pciDependentDevice.size);
  if (count > room) {
    answer(0, count);
    throw failure('ENOSPC', pdev, `${count} functions, room for ${room}`, INFO);
  }
  pdev.pciHost.faults.check('vfio_pci_ioctl_get_pci_hot_reset_info:devices');
  const { entries, flags } = await fillDevs(device, call, count);
  call.copyOut(entries, HEAD);
  answer(flags, entries.length / pciDependentDevice.size);
  return 0;
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_fill_devs() */
async function fillDevs(
  device: PciCoreDevice,
  call: IoctlCall,
  count: number,
): Promise<{ readonly entries: Uint8Array; readonly flags: number }> {
  using _held = await setOf(device).lock.lock();
  const { pdev } = device;
  const byId = deviceCdevOpened(device);
  const affected = affectedBy(pdev);
  if (affected.length > count) throw failure('EAGAIN', pdev, `${affected.length} functions by now`, INFO);
  const entries = new Uint8Array(affected.length * pciDependentDevice.size);
  let owned = true;
  for (const [at, one] of affected.entries()) {
    const id = byId ? devidOf(device, one) : groupIdOf(one);
    if (byId && id === PciDevid.NOT_OWNED) owned = false;
    const { number: bus, domain } = one.pciBus;
    const entry = { groupId: id, segment: domain.number, bus, devfn: one.devfn };
    entries.set(pciDependentDevice.encode(entry, call.order), at * pciDependentDevice.size);
  }
  const { DEV_ID, DEV_ID_OWNED } = PciHotResetFlag;
  return { entries, flags: byId ? (owned ? DEV_ID | DEV_ID_OWNED : DEV_ID) : 0 };
}

/** What a function is for a caller with an iommufd. */
function devidOf(device: PciCoreDevice, pdev: PciDev): number {
  const member = setOf(device).find(pdev);
  return (member && idIn(iommufdDeviceIctx(device), member)) ?? PciDevid.NOT_OWNED;
}

/** The id of a device in an iommufd, 0 if only its group is; undefined when neither is. */
function idIn(context: IommufdContext | undefined, member: VfioDevice): number | undefined {
  try {
    return iommufdGetDevId(member, context);
  } catch (error) {
    if (isVfioError(error, 'ENOENT')) return PciDevid.OWNED;
    if (isVfioError(error, 'ENODEV')) return undefined;
    throw error;
  }
}

/** @throws EPERM - it has none */
function groupIdOf(pdev: PciDev): number {
  if (!pdev.iommuGroup) throw failure('EPERM', pdev, 'it is in no group', INFO);
  return pdev.iommuGroup.id;
}

/**
 * VFIO_DEVICE_PCI_HOT_RESET: resets them all.
 *
 * @throws EINVAL - `argsz`, flags; descriptors through a node of its own, or none through a group; more than there are functions;
 *   no group; a function that is not the driver's, or not the caller's
 * @throws ENODEV - neither slot nor bus can be reset
 * @throws EBADF, EFAULT - a descriptor, the array
 * @throws EBUSY - somebody accesses one of them
 * @throws EAGAIN - somebody has a lock of one of them
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_pci_hot_reset()
 */
export async function ioctlPciHotReset(device: PciCoreDevice, call: IoctlCall): Promise<number> {
  const { pdev } = device;
  const { flags, count } = pciHotReset.decode(copyArgsz(call, HEAD), call.order);
  if (flags !== 0) throw failure('EINVAL', pdev, `flags ${flags}`, RESET);
  const byId = deviceCdevOpened(device);
  if ((count === 0) !== byId) throw failure('EINVAL', pdev, `${count} groups`, RESET);
  if (!canResetTogether(pdev)) throw failure('ENODEV', pdev, 'neither slot nor bus can be reset', RESET);
  if (byId) {
    const context = iommufdDeviceIctx(device);
    await devSetHotReset(device, (member) => idIn(context, member) !== undefined);
  } else await hotResetGroups(device, call, count);
  return 0;
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_pci_hot_reset_groups() */
async function hotResetGroups(device: PciCoreDevice, call: IoctlCall, count: number): Promise<void> {
  const { pdev } = device;
  const most = affectedBy(pdev).length;
  if (count > most) throw failure('EINVAL', pdev, `${count} groups, ${most} functions`, RESET);
  pdev.pciHost.faults.check('vfio_pci_ioctl_pci_hot_reset_groups:files');
  const bytes = call.copyIn(count * FD_SIZE, HEAD);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  // Nobody closes them while they prove that the caller has the functions.
  await using held = new Undo();
  const files: GroupFile[] = [];
  for (let i = 0; i < count; i++) {
    const file: File = call.process.files.get(view.getInt32(i * FD_SIZE, call.order === 'little')).get();
    held.add(() => file.put());
    if (!fileIsGroup(file)) throw failure('EINVAL', pdev, `${file.label} is no group`, RESET);
    files.push(file);
  }
  await devSetHotReset(device, (member) => files.some((file) => fileHasDev(file, member)));
}

/**
 * Resets all of a set. Each member's memory is closed first, to its users and to other devices; who is contended ends it, as
 * several of these locks in any order are a deadlock.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_dev_set_hot_reset()
 */
async function devSetHotReset(device: PciCoreDevice, isOwned: (member: PciCoreDevice) => boolean): Promise<void> {
  const set = setOf(device);
  using _held = await set.lock.lock();
  const pdev = devSetResettable(set);
  if (!pdev) throw failure('EINVAL', device.pdev, 'it is reset together with functions of other drivers', RESET);
  await using undo = new Undo();
  await devSetPmGet(set, undo);
  for (const member of members(set)) {
    if (!isOwned(member)) throw failure('EINVAL', member.pdev, 'the caller does not have it', RESET);
    await closeMemory(member, undo);
  }
  for (const member of members(set)) await trySetPowerState(member, PowerState.D0);
  await resetBus(pdev);
}

async function closeMemory(member: PciCoreDevice, undo: Undo): Promise<void> {
  const held = member.memoryLock.tryWrite();
  if (!held) throw failure('EBUSY', member.pdev, 'it is being accessed', RESET);
  undo.add(async () => {
    if (member.openCount > 0 && memoryEnabled(member)) await member.dmabufs.move(false);
    held.release();
  });
  await member.dmabufs.move(true);
  zapBars(member);
}
