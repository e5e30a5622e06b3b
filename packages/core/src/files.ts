// What other subsystems may ask of a file that somebody gave them: whether it is one of VFIO's, and what it stands for.

import type { File, KvmVm } from '@vfio/host';
import type { VfioDevice } from './device.js';
import { DeviceFile } from './device-file.js';
import { GroupFile } from './group-file.js';

/**
 * Whether it is the file of a group.
 *
 * @source drivers/vfio/group.c vfio_file_is_group()
 */
export function fileIsGroup(file: File): file is GroupFile {
  return file instanceof GroupFile;
}

/**
 * Whether it is the file of a group or of a device.
 *
 * @source drivers/vfio/vfio_main.c vfio_file_is_valid()
 */
export function fileIsValid(file: File): file is GroupFile | DeviceFile {
  return file instanceof GroupFile || file instanceof DeviceFile;
}

/**
 * Whether it is the file of the group that the device is in.
 *
 * @source drivers/vfio/group.c vfio_file_has_dev()
 */
export function fileHasDev(file: File, device: VfioDevice): boolean {
  return file instanceof GroupFile && device.group !== undefined && file.group === device.group;
}

/**
 * Whether DMA of everything behind the file is made to snoop the caches; true for a file that is not VFIO's.
 *
 * @source drivers/vfio/vfio_main.c vfio_file_enforced_coherent()
 */
export async function fileEnforcedCoherent(file: File): Promise<boolean> {
  if (file instanceof GroupFile) {
    const { group } = file;
    using _held = await group.deviceLock.lock();
    return group.devices.every((device) => enforced(device));
  }
  return file instanceof DeviceFile ? enforced(file.user.device) : true;
}

function enforced(device: VfioDevice): boolean {
  return device.vfio.host.iommu.capable(device.dev, 'enforce-cache-coherency');
}

/**
 * Connects what is behind the file with a virtual machine, or with none. Open devices keep the machine that they have;
 * the next first open sees the change. Does nothing with a file that is not VFIO's.
 *
 * @source drivers/vfio/vfio_main.c vfio_file_set_kvm()
 */
export function fileSetKvm(file: File, kvm: KvmVm | undefined): void {
  if (file instanceof GroupFile) file.group.kvm = kvm;
  else if (file instanceof DeviceFile) file.user.kvm = kvm;
}
