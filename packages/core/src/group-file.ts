// The file of a group: /dev/vfio/<gid>.

import { File, type IoctlCall, type Process, Undo } from '@vfio/host';
import { ContainerFile } from './container-file.js';
import { openDeviceFile } from './device-file.js';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import type { IommufdContext } from './iommufd/context.js';
import { contextFromFile, IommufdFile } from './iommufd/context-file.js';
import { vfioCompatIoasCreate, vfioCompatSetNoIommu } from './iommufd/vfio-ioas.js';
import { putRegistration } from './references.js';
import { GroupStatusFlag, groupStatus, Request } from './uapi/vfio.js';
import { copyArgsz, userString } from './user-args.js';

/** Longest name of a device, in bytes with its end: a page. */
const maxNameLength = 4096;

/** An open group counts twice for the module: once for the character device, once for the operations of the file. */
const moduleReferences = 2;

/**
 * Opens a group.
 *
 * @throws ENODEV - it is being removed
 * @throws EPERM - a no-IOMMU group, and the caller lacks CAP_SYS_RAWIO
 * @throws EBUSY - it is open already
 * @source drivers/vfio/group.c vfio_group_fops_open()
 */
export async function openGroup(group: Group, process: Process, flags: number): Promise<GroupFile> {
  using _held = await group.groupLock.lock();
  const subject = `/dev/vfio/${group.name}`;
  if (group.drivers === 0) throw new VfioError('ENODEV', 'the group is being removed', { syscall: 'open', subject });
  if (group.kind === 'no-iommu' && !process.credentials.capable('SYS_RAWIO')) {
    throw new VfioError('EPERM', 'a group without an IOMMU needs CAP_SYS_RAWIO', { syscall: 'open', subject });
  }
  if (group.cdevOpenCount > 0) {
    throw new VfioError('EBUSY', 'a device of the group is bound to an iommufd', { syscall: 'open', subject });
  }
  if (group.openedFile) throw new VfioError('EBUSY', 'the group is open already', { syscall: 'open', subject });
  const file = new GroupFile(group, flags);
  group.openedFile = file;
  return file;
}

/** An open group; there is one at most. */
export class GroupFile extends File {
  readonly group: Group;
  readonly #unpin: () => void;
  /** Keeps the class device, and with it the minor, while the file is open. */
  readonly #device: Group['device'];

  constructor(group: Group, flags: number) {
    super({ flags, label: `/dev/vfio/${group.name}`, seek: 'none' });
    this.group = group;
    this.#unpin = group.vfio.pinModule(moduleReferences);
    this.#device = group.device?.get();
  }

  override async ioctl(call: IoctlCall): Promise<number> {
    switch (call.request) {
      case Request.GROUP_GET_DEVICE_FD:
        return await this.#getDeviceFd(call);
      case Request.GROUP_GET_STATUS:
        return await this.#getStatus(call);
      case Request.GROUP_SET_CONTAINER:
        return await this.#setContainer(call);
      case Request.GROUP_UNSET_CONTAINER:
        return await this.#unsetContainer();
      default:
        throw new VfioError('ENOTTY', `a group does not know request 0x${call.request.toString(16)}`, {
          syscall: 'ioctl',
        });
    }
  }

  /**
   * The group leaves what it is in.
   *
   * @throws whatever the IOMMU driver throws, a bug of it; everything is given back all the same
   * @source drivers/vfio/group.c vfio_group_fops_release()
   */
  override async release(): Promise<void> {
    const { group } = this;
    // from the last one on, when the group is unlocked
    await using rest = new Undo();
    rest.add(this.#unpin);
    rest.add(() => this.#device?.put());
    using _held = await group.groupLock.lock();
    const iommufd = takeIommufd(group);
    rest.add(async () => await iommufd?.put());
    group.openedFile = undefined;
    await group.container?.detachGroup(group);
  }

  async #getStatus(call: IoctlCall): Promise<number> {
    const { group } = this;
    const status = groupStatus.decode(copyArgsz(call, groupStatus.size), call.order);
    status.flags = 0;
    using _held = await group.groupLock.lock();
    const { iommuGroup } = group;
    if (!iommuGroup) throw gone(group, 'VFIO_GROUP_GET_STATUS');
    // with a container the group was proved viable when it was set
    if (group.hasIommu()) status.flags = GroupStatusFlag.VIABLE | GroupStatusFlag.CONTAINER_SET;
    else if (!iommuGroup.dmaOwnerClaimed()) status.flags = GroupStatusFlag.VIABLE;
    call.copyOut(groupStatus.encode(status, call.order));
    return 0;
  }

  async #setContainer(call: IoctlCall): Promise<number> {
    const { group } = this;
    const syscall = 'VFIO_GROUP_SET_CONTAINER';
    const fd = call.u32() | 0;
    const file = call.process.files.get(fd).get();
    try {
      using _held = await group.groupLock.lock();
      if (group.hasIommu()) throw new VfioError('EINVAL', `group ${group.name} has a container already`, { syscall });
      if (!group.iommuGroup) throw gone(group, syscall);
      if (file instanceof ContainerFile) await file.container.attachGroup(group, call.process);
      else if (file instanceof IommufdFile && group.vfio.iommufd) await giveIommufd(group, file);
      else throw new VfioError('EBADFD', `descriptor ${fd} is no container`, { syscall });
    } finally {
      await file.put();
    }
    return 0;
  }

  async #unsetContainer(): Promise<number> {
    const { group } = this;
    const syscall = 'VFIO_GROUP_UNSET_CONTAINER';
    let iommufd: IommufdContext | undefined;
    {
      using _held = await group.groupLock.lock();
      if (!group.hasIommu()) throw new VfioError('EINVAL', `group ${group.name} has no container`, { syscall });
      if (group.container && group.containerUsers !== 1) {
        throw new VfioError('EBUSY', `group ${group.name} has ${group.containerUsers - 1} open devices`, { syscall });
      }
      await group.container?.detachGroup(group);
      iommufd = takeIommufd(group);
    }
    await iommufd?.put();
    return 0;
  }

  /** Source: drivers/vfio/group.c vfio_group_ioctl_get_device_fd() */
  async #getDeviceFd(call: IoctlCall): Promise<number> {
    const { process } = call;
    const device = await this.group.getDeviceByName(userString(call, maxNameLength));
    let fd: number;
    try {
      fd = process.files.reserve();
    } catch (error) {
      putRegistration(device);
      throw error;
    }
    try {
      const file = await openDeviceFile(this.group, device, process);
      process.files.install(fd, file, { cloexec: true });
      return fd;
    } catch (error) {
      process.files.unreserve(fd);
      putRegistration(device);
      throw error;
    }
  }
}

/**
 * An iommufd stands in for a container. Devices that are opened from here on are bound to it, and attached to its compat
 * IOAS.
 *
 * @throws EINVAL - no-IOMMU groups and others do not go together
 * @throws ENOMEM - no memory for the compat IOAS
 */
async function giveIommufd(group: Group, file: IommufdFile): Promise<void> {
  const context = contextFromFile(file);
  try {
    if (group.kind === 'no-iommu') vfioCompatSetNoIommu(context);
    else await vfioCompatIoasCreate(context);
  } catch (error) {
    await context.put();
    throw error;
  }
  group.iommufd = context;
}

/** The group's reference, to be put when no lock is held: it may be the last. */
function takeIommufd(group: Group): IommufdContext | undefined {
  const { iommufd } = group;
  group.iommufd = undefined;
  return iommufd;
}

function gone(group: Group, syscall: string): VfioError {
  return new VfioError('ENODEV', `the IOMMU group of group ${group.name} is gone`, { syscall });
}
