/**
 * Groups come and go. Hardware groups share a domain where the hardware is of one kind and equally coherent; each brings
 * its aperture and its reserved regions, which narrow what may be mapped. Emulated groups are only listed.
 */
import { type IommuDomain, type IommuGroup, isSystemError, type ReservedRegion, Undo } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { GroupType } from '../iommu-driver.js';
import { populateBitmapFull, resizeBitmaps } from './dirty.js';
import { unchargeLocked } from './locked-vm.js';
import { replay } from './replay.js';
import type { AttachedGroup, IovaWindow, Type1Domain, Type1State } from './state.js';
import { removeDma, unmapUnpin } from './unmap.js';
import {
  aperConflict,
  aperResize,
  commonAperture,
  iovaGetCopy,
  resvConflict,
  resvExclude,
  resvRefresh,
} from './windows.js';

const syscall = 'attach_group';

function failure(code: 'EBUSY' | 'EINVAL' | 'EPERM' | 'ENODEV', reason: string, group: IommuGroup): VfioError {
  return new VfioError(code, reason, { syscall, subject: `iommu group ${group.id}` });
}

/**
 * Attaches a group: its devices can use all mappings from now on. When it throws, everything is as before.
 *
 * @throws EBUSY - the user is exchanging addresses
 * @throws EINVAL - the group is attached already; its aperture or a reserved region collides with mappings; no window is left
 * @throws EPERM - interrupts of the group are not isolated, and nobody allowed that
 * @throws ENOMEM - no memory for it, or for pinning what is mapped
 * @throws the errno of the domain
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_attach_group()
 */
export async function attachGroup(state: Type1State, iommuGroup: IommuGroup, type: GroupType): Promise<void> {
  using _held = await state.lock.lock();
  // attaching may pin, and there is no address to pin from
  if (state.vaddrInvalidCount > 0) {
    throw failure('EBUSY', `${state.vaddrInvalidCount} mappings wait for an address`, iommuGroup);
  }
  if (state.findGroup(iommuGroup)) throw failure('EINVAL', 'attached already', iommuGroup);
  const { faults } = state.host;
  faults.check('vfio_iommu_type1_attach_group:group');
  const group: AttachedGroup = { iommuGroup, pinnedPageDirtyScope: type === 'emulated-iommu' };
  if (type === 'emulated-iommu') {
    state.emulatedGroups.unshift(group);
    return;
  }
  faults.check('vfio_iommu_type1_attach_group:domain');
  await attachToHardware(state, group);
  state.numNonPinnedGroups++;
}

async function attachToHardware(state: Type1State, group: AttachedGroup): Promise<void> {
  const { iommuGroup } = group;
  await using undo = new Undo();
  const [device] = iommuGroup.devices;
  if (!device) throw failure('ENODEV', 'has no device', iommuGroup);
  const domain = state.host.iommu.allocDomain(device);
  undo.add(() => domain.free());
  iommuGroup.attach(domain);
  undo.add(() => {
    if (iommuGroup.domain === domain) iommuGroup.detach(domain);
  });
  const windows = narrowedWindows(state, domain, iommuGroup, iommuGroup.reservedRegions());
  if (!state.parameters.allowUnsafeInterrupts && !iommuGroup.hasIsolatedMsi()) {
    state.host.log.warn(
      `vfio_iommu_type1_attach_group: group ${iommuGroup.id} has no interrupt remapping, see allow_unsafe_interrupts`,
    );
    throw failure('EPERM', 'interrupts are not isolated', iommuGroup);
  }
  const enforceCacheCoherency = domain.enforceCoherency();
  const shared = shareDomain(state, group, domain, enforceCacheCoherency);
  if (!shared) {
    const fresh: Type1Domain = { domain, groups: [group], enforceCacheCoherency };
    replay(state, fresh);
    state.domains.unshift(fresh);
    const pagesBefore = state.pgsizePages;
    state.updatePgsizeBitmap();
    resizeBitmaps(state, pagesBefore);
    undo.keep();
  }
  state.windows = windows;
}

/**
 * The windows with what a new group brings.
 *
 * @throws EINVAL - it collides with mappings or leaves nothing
 */
function narrowedWindows(
  state: Type1State,
  { aperture }: IommuDomain,
  iommuGroup: IommuGroup,
  regions: readonly ReservedRegion[],
): IovaWindow[] {
  const { faults } = state.host;
  if (aperConflict(state.windows, state.dmas, aperture)) {
    throw failure('EINVAL', 'its aperture does not hold what is mapped', iommuGroup);
  }
  if (resvConflict(state.dmas, regions)) throw failure('EINVAL', 'a mapping is in a reserved region', iommuGroup);
  return resvExclude(faults, aperResize(faults, iovaGetCopy(faults, state.windows), aperture), regions);
}

/**
 * Moves a group from its new domain to one that the container has, if one fits. The new one is free then.
 *
 * @returns false - no domain fits, the group is in its new domain
 * @throws the errno of going back to the new domain
 */
function shareDomain(state: Type1State, group: AttachedGroup, domain: IommuDomain, enforced: boolean): boolean {
  const { iommuGroup } = group;
  for (const candidate of state.domains) {
    // all units of a host have one driver: what is left to compare is coherency
    if (candidate.enforceCacheCoherency !== enforced) continue;
    iommuGroup.detach(domain);
    try {
      iommuGroup.attach(candidate.domain);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      iommuGroup.attach(domain);
      continue;
    }
    candidate.groups.unshift(group);
    return true;
  }
  return false;
}

/** Every mapping goes. Source: drivers/vfio/vfio_iommu_type1.c vfio_iommu_unmap_unpin_all() */
export function unmapUnpinAll(state: Type1State): void {
  for (const dma of [...state.dmas]) removeDma(state, dma);
}

/**
 * The last hardware goes, mappings stay for emulated devices: only what those hold is still charged.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_unmap_unpin_reaccount()
 */
function unmapUnpinReaccount(state: Type1State): void {
  for (const dma of state.dmas) {
    const unlocked = unmapUnpin(state, dma);
    unchargeLocked(dma, unlocked - dma.countPfns(dma.page, dma.pages));
  }
}

function lastGroupGoes(state: Type1State): void {
  state.host.log.warnOn(state.devices.length > 0, 'the last group goes with devices that listen for unmaps');
  unmapUnpinAll(state);
}

/**
 * Detaches a group; one that is not attached is ignored. With the last one all mappings go.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_detach_group()
 */
export async function detachGroup(state: Type1State, iommuGroup: IommuGroup): Promise<void> {
  using _held = await state.lock.lock();
  const gone = detachEmulated(state, iommuGroup) ?? detachFromHardware(state, iommuGroup);
  if (!gone || gone.pinnedPageDirtyScope) return;
  // what it may have written before is dirty now; without it, only pins will count
  state.numNonPinnedGroups--;
  if (state.dirtyPageTracking) populateBitmapFull(state);
}

function detachEmulated(state: Type1State, iommuGroup: IommuGroup): AttachedGroup | undefined {
  const group = removeFrom(state.emulatedGroups, iommuGroup);
  if (group && state.emulatedGroups.length === 0 && state.domains.length === 0) lastGroupGoes(state);
  return group;
}

function detachFromHardware(state: Type1State, iommuGroup: IommuGroup): AttachedGroup | undefined {
  for (const entry of state.domains) {
    const group = removeFrom(entry.groups, iommuGroup);
    if (!group) continue;
    iommuGroup.detach(entry.domain);
    const first = state.windows.at(0);
    const last = state.windows.at(-1);
    const outer = first && last && { start: first.start, end: last.end };
    if (entry.groups.length > 0) {
      refreshWindows(state, outer);
    } else {
      releaseDomain(state, entry);
      refreshWindows(state, outer && commonAperture(state.domains));
    }
    return group;
  }
  return undefined;
}

/** The last group of a domain went. */
function releaseDomain(state: Type1State, entry: Type1Domain): void {
  if (state.domains.length === 1) {
    if (state.emulatedGroups.length === 0) lastGroupGoes(state);
    else unmapUnpinReaccount(state);
  }
  entry.domain.free();
  state.domains.splice(state.domains.indexOf(entry), 1);
  const pagesBefore = state.pgsizePages;
  state.updatePgsizeBitmap();
  resizeBitmaps(state, pagesBefore);
}

/** Without memory for new windows the old ones stay: they are too narrow, never too wide. */
function refreshWindows(state: Type1State, ends: IovaWindow | undefined): void {
  if (!ends) return;
  try {
    state.windows = resvRefresh(state.host.faults, ends, state.domains);
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}

function removeFrom(groups: AttachedGroup[], iommuGroup: IommuGroup): AttachedGroup | undefined {
  const index = groups.findIndex((group) => group.iommuGroup === iommuGroup);
  return index < 0 ? undefined : groups.splice(index, 1)[0];
}

/**
 * The container goes: everything is given back, whatever is still attached.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_release()
 */
export async function releaseAll(state: Type1State): Promise<void> {
  using _held = await state.lock.lock();
  state.emulatedGroups.length = 0;
  unmapUnpinAll(state);
  for (const { domain, groups } of state.domains) {
    for (const { iommuGroup } of groups) iommuGroup.detach(domain);
    domain.free();
  }
  state.domains.length = 0;
  state.windows = [];
  state.released = true;
}

/**
 * The domain that a group is in.
 *
 * @throws ENODEV - it is in none
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_group_iommu_domain()
 */
export async function groupIommuDomain(state: Type1State, iommuGroup: IommuGroup): Promise<IommuDomain> {
  using _held = await state.lock.lock();
  const entry = state.domains.find(({ groups }) => groups.some((group) => group.iommuGroup === iommuGroup));
  if (!entry)
    throw new VfioError('ENODEV', 'in no domain', {
      syscall: 'group_iommu_domain',
      subject: `iommu group ${iommuGroup.id}`,
    });
  return entry.domain;
}
