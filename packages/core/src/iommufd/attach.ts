/**
 * Attaching devices to page tables: to one that the user names, or to an IOAS, for which the first fitting page table of
 * its own making is found or made. What a device must not use is reserved in the IOAS as long as it is attached.
 */
import { isSystemError, NO_PASID } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { IommufdDevice } from './device.js';
import type { Attachment } from './group.js';
import { HwptPaging, linkHwpt, newHwpt, putHwpt } from './hwpt.js';
import type { IoPagetable } from './io-pagetable.js';
import { Ioas } from './ioas.js';
import { IommufdObject } from './objects.js';

function refuse(idev: IommufdDevice, code: 'EINVAL' | 'EBUSY', reason: string): VfioError {
  return new VfioError(code, reason, { syscall: 'iommufd_device_attach', subject: idev.device.name });
}

/**
 * Reserves what a device must not use. Firmware can do without the relaxable regions.
 *
 * @throws EADDRINUSE - a mapping or an allowed range is there
 * @throws EINVAL - the device has both kinds of interrupt windows (WARN)
 * @throws ENOMEM - no memory for it; nothing is reserved then
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_table_enforce_dev_resv_regions()
 */
async function enforceResvRegions(iopt: IoPagetable, { device, context }: IommufdDevice): Promise<void> {
  const { host } = context;
  using _held = await iopt.iovaRwsem.write();
  const regions = host.iommu.reservedOf(device).filter(({ type }) => type !== 'direct-relaxable');
  try {
    for (const { start, end } of regions) iopt.reserve(start, end, device);
    const hardware = regions.some(({ type }) => type === 'msi');
    const software = regions.filter(({ type }) => type === 'sw-msi').length;
    if (host.log.warnOn(software > (hardware ? 0 : 1), `iommufd: ${device.name} has several interrupt windows`)) {
      throw new VfioError('EINVAL', 'several interrupt windows', { syscall: 'iommufd_device_attach' });
    }
  } catch (error) {
    iopt.dropReserved(device);
    throw error;
  }
}

/** Source: drivers/iommu/iommufd/device.c iommufd_hwpt_pasid_compat() */
function checkCompat(idev: IommufdDevice, hwpt: HwptPaging, pasid: number): void {
  if (idev.igroup.allows(hwpt, pasid)) return;
  throw refuse(idev, 'EINVAL', `page table ${hwpt.id} and PASIDs do not go together`);
}

/**
 * Connects hardware: the whole group, or one PASID of it.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_hwpt_attach_device()
 */
function attachHardware(idev: IommufdDevice, hwpt: HwptPaging, pasid: number): void {
  const { group } = idev.igroup;
  checkCompat(idev, hwpt, pasid);
  idev.context.host.faults.check('iommufd_hwpt_attach_device:handle');
  if (pasid === NO_PASID) group.attach(hwpt.domain);
  else group.pasids.attach(hwpt.domain, pasid);
}

/** Source: drivers/iommu/iommufd/device.c iommufd_hwpt_detach_device() */
function detachHardware(idev: IommufdDevice, hwpt: HwptPaging, pasid: number): void {
  const { group } = idev.igroup;
  if (pasid === NO_PASID) group.detach(hwpt.domain);
  else group.pasids.detach(hwpt.domain, pasid);
}

/**
 * Moves hardware from one page table to another; it stays where it is when that fails.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_hwpt_replace_device()
 */
function replaceHardware(idev: IommufdDevice, hwpt: HwptPaging, pasid: number): void {
  const { group } = idev.igroup;
  checkCompat(idev, hwpt, pasid);
  idev.context.host.faults.check('iommufd_hwpt_replace_device:handle');
  if (pasid === NO_PASID) group.replace(hwpt.domain);
  else group.pasids.replace(hwpt.domain, pasid);
}

/**
 * Attaches a device. The group goes with the first of its devices; the others only add what they must not use.
 *
 * @throws EINVAL - the group is attached to another page table; the hardware cannot use this one; no such PASID
 * @throws EBUSY - the device is attached already
 * @throws EOPNOTSUPP - the IOMMU knows no PASIDs
 * @throws EADDRINUSE, ENOMEM - as for `enforceResvRegions`; nothing has changed then
 * @source drivers/iommu/iommufd/device.c iommufd_hw_pagetable_attach()
 */
async function attachHwpt(idev: IommufdDevice, hwpt: HwptPaging, pasid: number): Promise<void> {
  const { igroup } = idev;
  using _held = await igroup.lock.lock();
  const attachment = igroup.attachments.get(pasid);
  if (attachment?.devices.has(idev)) throw refuse(idev, 'EBUSY', 'attached already');
  if (attachment && attachment.hwpt !== hwpt) {
    throw refuse(idev, 'EINVAL', `the group is attached to page table ${attachment.hwpt.id}`);
  }
  const { iopt } = hwpt.ioas;
  if (pasid === NO_PASID) await enforceResvRegions(iopt, idev);
  if (attachment) {
    attachment.devices.add(idev);
  } else {
    try {
      attachHardware(idev, hwpt, pasid);
    } catch (error) {
      if (pasid === NO_PASID) await iopt.removeReserved(idev.device);
      throw error;
    }
    igroup.attachments.set(pasid, { hwpt, devices: new Set([idev]) });
  }
  hwpt.users.inc();
}

/**
 * Detaches a device; the group goes with the last of its devices.
 *
 * @returns the page table, with the user that the attachment was; undefined when the device was not attached
 * @source drivers/iommu/iommufd/device.c iommufd_hw_pagetable_detach()
 */
async function detachHwpt(idev: IommufdDevice, pasid: number): Promise<HwptPaging | undefined> {
  const { igroup } = idev;
  using _held = await igroup.lock.lock();
  const attachment = igroup.attachments.get(pasid);
  if (!attachment?.devices.delete(idev)) return undefined;
  const { hwpt, devices } = attachment;
  if (devices.size === 0) {
    igroup.attachments.delete(pasid);
    detachHardware(idev, hwpt, pasid);
  }
  if (pasid === NO_PASID) await hwpt.ioas.iopt.removeReserved(idev.device);
  return hwpt;
}

/** Reserves for all attached devices of a group in a new IOAS, or for none. */
async function reserveForAll(iopt: IoPagetable, devices: Iterable<IommufdDevice>): Promise<void> {
  const done: IommufdDevice[] = [];
  try {
    for (const device of devices) {
      await enforceResvRegions(iopt, device);
      done.push(device);
    }
  } catch (error) {
    for (const { device } of done) await iopt.removeReserved(device);
    throw error;
  }
}

/**
 * Moves the whole group of an attached device to another page table.
 *
 * Differs: when hardware refuses a page table of the same IOAS, what its devices must not use stays reserved; the kernel
 * forgets it.
 *
 * @returns the old page table, with one user that is the caller's; undefined when it is the same
 * @throws EINVAL - the device is not attached, or the hardware cannot use the page table
 * @throws EADDRINUSE, ENOMEM - as for `enforceResvRegions`; nothing has changed then
 * @source drivers/iommu/iommufd/device.c iommufd_device_do_replace()
 */
async function replaceHwpt(idev: IommufdDevice, hwpt: HwptPaging, pasid: number): Promise<HwptPaging | undefined> {
  const { igroup } = idev;
  using _held = await igroup.lock.lock();
  const attachment = igroup.attachments.get(pasid);
  if (!attachment?.devices.has(idev)) throw refuse(idev, 'EINVAL', 'not attached');
  const { hwpt: old, devices } = attachment;
  if (old === hwpt) return undefined;
  const moves = pasid === NO_PASID && old.ioas !== hwpt.ioas;
  if (moves) await reserveForAll(hwpt.ioas.iopt, devices);
  try {
    replaceHardware(idev, hwpt, pasid);
  } catch (error) {
    if (moves) for (const { device } of devices) await hwpt.ioas.iopt.removeReserved(device);
    throw error;
  }
  if (moves) for (const { device } of devices) await old.ioas.iopt.removeReserved(device);
  moveUsers(attachment, hwpt);
  return old;
}

/** Every attached device is a user of the page table; the caller keeps the last one of the old. */
function moveUsers(attachment: Attachment, hwpt: HwptPaging): void {
  const { hwpt: old, devices } = attachment;
  for (let moved = 0; moved < devices.size; moved++) {
    hwpt.users.inc();
    if (moved > 0) old.users.decAndTest();
  }
  attachment.hwpt = hwpt;
}

/** Attach or replace: what happens to the page table that is found. It returns one that has to be put. */
type Change = (idev: IommufdDevice, hwpt: HwptPaging, pasid: number) => Promise<HwptPaging | undefined>;

const attach: Change = async (idev, hwpt, pasid) => {
  await attachHwpt(idev, hwpt, pasid);
  return undefined;
};

/** What a change came to. */
interface Changed {
  /** Page table now in use. */
  readonly id: number;
  /** Page table that was in use before. */
  readonly old: HwptPaging | undefined;
}

/**
 * Finds a page table of an IOAS that takes the device, the oldest first, or makes one.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_device_auto_get_domain()
 */
async function autoDomain(idev: IommufdDevice, ioas: Ioas, pasid: number, change: Change): Promise<Changed> {
  const { objects } = idev.context;
  using _held = await ioas.mutex.lock();
  for (const hwpt of [...ioas.hwpts]) {
    if (!(hwpt instanceof HwptPaging) || !hwpt.autoDomain || !objects.lock(hwpt)) continue;
    try {
      return { id: hwpt.id, old: await change(idev, hwpt, pasid) };
    } catch (error) {
      // this one does not fit; anything else is a failure
      if (!isSystemError(error, 'EINVAL')) throw error;
    } finally {
      objects.put(hwpt);
    }
  }
  return await makeDomain(idev, ioas, pasid, change);
}

/**
 * Makes a page table for a device. A device that is attached for the first time is attached before the table is filled,
 * so that what it must not use is reserved by then; one that moves has its new table ready first.
 */
async function makeDomain(idev: IommufdDevice, ioas: Ioas, pasid: number, change: Change): Promise<Changed> {
  const { context } = idev;
  const hwpt = newHwpt(context, ioas, idev, 0);
  let old: HwptPaging | undefined;
  try {
    if (change === attach) {
      await attachHwpt(idev, hwpt, pasid);
      try {
        await linkHwpt(hwpt);
      } catch (error) {
        const detached = await detachHwpt(idev, pasid);
        detached?.users.decAndTest();
        throw error;
      }
    } else {
      await linkHwpt(hwpt);
      old = await change(idev, hwpt, pasid);
    }
  } catch (error) {
    await context.objects.abortAndDestroy(hwpt);
    throw error;
  }
  hwpt.autoDomain = true;
  context.objects.finalize(hwpt);
  return { id: hwpt.id, old };
}

/** Source: drivers/iommu/iommufd/device.c iommufd_device_change_pt() */
async function changePt(idev: IommufdDevice, ptId: number, pasid: number, change: Change): Promise<number> {
  const { id, old } = await withPt();
  // after all locks are free: the old one may be destroyed
  if (old) await putHwpt(old);
  return id;

  async function withPt(): Promise<Changed> {
    using pt = idev.context.objects.hold(ptId, IommufdObject);
    if (pt.object instanceof Ioas) return await autoDomain(idev, pt.object, pasid, change);
    if (pt.object instanceof HwptPaging) return { id: ptId, old: await change(idev, pt.object, pasid) };
    throw refuse(idev, 'EINVAL', `${pt.object.kind} ${ptId} has no page table`);
  }
}

/**
 * Attaches a device, or one PASID of it, to an IOAS or a page table. From now on its DMA reaches what is mapped.
 *
 * @param ptId - an IOAS, for which a page table is found or made, or a page table
 * @param pasid - 0: the device itself
 * @returns id of the page table
 * @throws ENOENT - no such object
 * @throws EINVAL - not an IOAS or page table; the group uses another one; the hardware cannot use it; no such PASID, or a
 *   page table that is not made for PASIDs, as those of an IOAS
 * @throws EBUSY - attached already
 * @throws EOPNOTSUPP - the IOMMU knows no PASIDs
 * @throws EADDRINUSE - what is mapped or allowed meets what the device must not use or cannot reach
 * @throws EFAULT, ENOMEM - mapped memory cannot be pinned, or not charged
 * @source drivers/iommu/iommufd/device.c iommufd_device_attach()
 */
export async function deviceAttach(idev: IommufdDevice, ptId: number, pasid = NO_PASID): Promise<number> {
  const id = await changePt(idev, ptId, pasid, attach);
  // a device that is unbound while attached is found out
  idev.users.inc();
  return id;
}

/**
 * Moves an attached device, with its group, to another IOAS or page table. The attachment stays as it is when this fails.
 *
 * @returns id of the page table
 * @throws EINVAL - not attached; and as `deviceAttach`
 * @throws ENOENT, EADDRINUSE, EFAULT, ENOMEM - as for `deviceAttach`
 * @source drivers/iommu/iommufd/device.c iommufd_device_replace()
 */
export async function deviceReplace(idev: IommufdDevice, ptId: number, pasid = NO_PASID): Promise<number> {
  return await changePt(idev, ptId, pasid, replaceHwpt);
}

/**
 * Detaches a device or one PASID of it; its DMA is blocked. One that is not attached is left alone.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_device_detach()
 */
export async function deviceDetach(idev: IommufdDevice, pasid = NO_PASID): Promise<void> {
  const hwpt = await detachHwpt(idev, pasid);
  if (!hwpt) return;
  await putHwpt(hwpt);
  idev.users.decAndTest();
}

/** The page table that a device's requests go through. */
export function attachedHwpt(idev: IommufdDevice, pasid = NO_PASID): HwptPaging | undefined {
  const attachment = idev.igroup.attachments.get(pasid);
  return attachment?.devices.has(idev) ? attachment.hwpt : undefined;
}
