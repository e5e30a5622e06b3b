// The container behind a device that was opened through its group.

import { type AddressSpace, type IommuGroup, PAGE_SIZE, type Process, Undo } from '@vfio/host';
import type { Deferred, DeviceBackend } from './backend.js';
import type { Container } from './container.js';
import type { VfioDevice } from './device.js';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import type { GroupFile } from './group-file.js';
import type { IommuBackend, PinnedPage } from './iommu-driver.js';

/** Most pages that one call may pin or unpin. Source: include/linux/vfio.h VFIO_PIN_PAGES_MAX_ENTRIES */
export const maxPinnedPages = PAGE_SIZE / 8;

/** A user of the container: the open device keeps the group's file, and with it group and container. */
export class ContainerBackend implements DeviceBackend {
  readonly #container: Container;
  readonly #group: Group;
  readonly #groupFile: GroupFile;

  private constructor(container: Container, group: Group, groupFile: GroupFile) {
    this.#container = container;
    this.#group = group;
    this.#groupFile = groupFile;
  }

  /**
   * The first open of a device; the group's lock is held.
   *
   * @throws EINVAL - the container has no IOMMU driver
   * @throws EPERM - a device without an IOMMU, and the caller lacks CAP_SYS_RAWIO
   * @source drivers/vfio/container.c vfio_group_use_container(), vfio_device_container_register()
   */
  static async use(device: VfioDevice, group: Group, process: Process): Promise<ContainerBackend> {
    const { container, openedFile } = group;
    const syscall = 'VFIO_GROUP_GET_DEVICE_FD';
    if (!container?.backend || !openedFile) {
      throw new VfioError('EINVAL', 'the container has no IOMMU driver', { syscall });
    }
    if (group.kind === 'no-iommu' && !process.credentials.capable('SYS_RAWIO')) {
      throw new VfioError('EPERM', 'a device without an IOMMU needs CAP_SYS_RAWIO', { syscall });
    }
    await using undo = new Undo();
    openedFile.get();
    // the caller has the file open: this is not the last reference
    undo.add(() => openedFile.put());
    group.containerUsers++;
    undo.add(() => {
      group.containerUsers--;
    });
    await container.registerDevice(device);
    undo.keep();
    return new ContainerBackend(container, group, openedFile);
  }

  /** Source: drivers/vfio/container.c vfio_device_container_unregister(), vfio_group_unuse_container() */
  async release(device: VfioDevice, deferred: Deferred): Promise<void> {
    const group = this.#group;
    deferred.push(() => this.#groupFile.put());
    try {
      await this.#container.unregisterDevice(device);
    } finally {
      group.vfio.host.log.warnOn(group.containerUsers <= 1, `group ${group.name} has no user to give back`);
      group.containerUsers--;
    }
  }

  async pinPages(device: VfioDevice, iova: bigint, npage: number, prot: number): Promise<PinnedPage[]> {
    const { iommu, iommuGroup } = this.#iommu(device);
    if (npage > maxPinnedPages) {
      throw new VfioError('E2BIG', `${npage} pages, ${maxPinnedPages} at most`, { subject: device.name });
    }
    if (!iommu.pinPages) throw new VfioError('ENOTTY', 'the IOMMU driver can not pin', { subject: device.name });
    return await iommu.pinPages(iommuGroup, iova, npage, prot);
  }

  async unpinPages(device: VfioDevice, iova: bigint, npage: number): Promise<void> {
    const { log } = device.vfio.host;
    if (log.warnOn(npage <= 0 || npage > maxPinnedPages, `vfio_unpin_pages: ${npage} pages`)) return;
    await this.#container.backend?.unpinPages?.(iova, npage);
  }

  async dmaRw(
    device: VfioDevice,
    iova: bigint,
    bytes: Uint8Array,
    write: boolean,
    caller?: AddressSpace,
  ): Promise<void> {
    const { iommu } = this.#iommu(device);
    if (!iommu.dmaRw) throw new VfioError('ENOTTY', 'the IOMMU driver can not copy', { subject: device.name });
    await iommu.dmaRw(iova, bytes, write, caller);
  }

  #iommu(device: VfioDevice): { iommu: IommuBackend; iommuGroup: IommuGroup } {
    const { backend: iommu } = this.#container;
    const { iommuGroup } = this.#group;
    if (!iommu || !iommuGroup) throw new VfioError('EINVAL', 'nothing behind the device', { subject: device.name });
    return { iommu, iommuGroup };
  }
}
