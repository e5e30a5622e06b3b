// A container: groups that share one set of mappings, and the IOMMU driver that keeps them.

import { type IoctlCall, type Module, type Process, RwLock, Undo } from '@vfio/host';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import type { DmaUnmapListener, IommuBackend, IommuDriver } from './iommu-driver.js';
import type { Vfio } from './vfio.js';

/** The driver that SET_IOMMU chose, and what it made for this container. */
interface Chosen {
  readonly driver: IommuDriver;
  readonly backend: IommuBackend;
}

/** Source: drivers/vfio/container.c `struct vfio_container` */
export class Container {
  readonly vfio: Vfio;
  /** Read for extensions and for use, written to attach, detach and choose. */
  readonly lock: RwLock;
  readonly #groups: Group[] = [];
  #noiommu = false;
  #chosen: Chosen | undefined;

  constructor(vfio: Vfio) {
    this.vfio = vfio;
    this.lock = new RwLock(vfio.host, 'vfio_container.group_lock');
  }

  /** Attached groups, newest first: the order in which SET_IOMMU attaches them. */
  get groups(): readonly Group[] {
    return this.#groups;
  }

  /** What keeps the mappings, once SET_IOMMU chose it. */
  get backend(): IommuBackend | undefined {
    return this.#chosen?.backend;
  }

  /**
   * Whether an extension is there: positive, or 0. Without a driver every driver is asked.
   *
   * @source drivers/vfio/container.c vfio_container_ioctl_check_extension()
   */
  async checkExtension(extension: number): Promise<number> {
    using _held = await this.lock.read();
    if (this.#chosen) return await this.#chosen.backend.checkExtension(extension);
    using _drivers = await this.vfio.iommuDriversLock.lock();
    for (const driver of this.vfio.iommuDrivers) {
      if (this.#groups.length > 0 && !this.#allows(driver)) continue;
      if (!pin(driver.module)) continue;
      const answer = driver.checkExtension(extension);
      driver.module?.put();
      if (answer > 0) return answer;
    }
    return 0;
  }

  /**
   * Chooses the driver: the newest one that knows the kind and can take all groups.
   *
   * @throws EINVAL - no group is attached, or a driver is chosen already
   * @throws ENODEV - no driver knows the kind
   * @throws what the last driver that knows it threw
   * @source drivers/vfio/container.c vfio_ioctl_set_iommu()
   */
  async setIommu(kind: number, caller: Process): Promise<void> {
    const syscall = 'VFIO_SET_IOMMU';
    using _held = await this.lock.write();
    if (this.#groups.length === 0) throw new VfioError('EINVAL', 'the container has no group', { syscall });
    if (this.#chosen)
      throw new VfioError('EINVAL', `the container uses ${this.#chosen.driver.name} already`, { syscall });
    using _drivers = await this.vfio.iommuDriversLock.lock();
    let failure: unknown;
    for (const driver of this.vfio.iommuDrivers) {
      if (!this.#allows(driver) || !pin(driver.module)) continue;
      if (driver.checkExtension(kind) <= 0) {
        driver.module?.put();
        continue;
      }
      try {
        this.#chosen = { driver, backend: await this.#attachAll(driver, kind, caller) };
        return;
      } catch (error) {
        driver.module?.put();
        failure = error;
      }
    }
    throw failure ?? new VfioError('ENODEV', `no driver knows IOMMU type ${kind}`, { syscall });
  }

  async #attachAll(driver: IommuDriver, kind: number, caller: Process): Promise<IommuBackend> {
    const backend = driver.open(kind, caller);
    await using undo = new Undo();
    undo.add(() => backend.release());
    for (const group of this.#groups) {
      const iommuGroup = iommuGroupOf(group);
      await backend.attachGroup(iommuGroup, group.kind);
      undo.add(() => backend.detachGroup(iommuGroup));
    }
    undo.keep();
    return backend;
  }

  /** A request that the container itself does not know. Source: drivers/vfio/container.c vfio_fops_unl_ioctl() */
  async ioctl(call: IoctlCall): Promise<number> {
    if (!this.#chosen) throw new VfioError('EINVAL', 'the container has no IOMMU driver yet', { syscall: 'ioctl' });
    return await this.#chosen.backend.ioctl(call);
  }

  /**
   * Attaches a group, whose lock is held.
   *
   * @throws EPERM - a no-IOMMU group and no CAP_SYS_RAWIO; groups with and without IOMMU mixed; somebody else uses the
   *   group for DMA
   * @throws EBUSY - the group is attached to a foreign domain
   * @throws what the chosen driver's attachGroup throws
   * @source drivers/vfio/container.c vfio_container_attach_group()
   */
  async attachGroup(group: Group, caller: Process): Promise<void> {
    group.groupLock.assertHeld();
    const syscall = 'VFIO_GROUP_SET_CONTAINER';
    const noiommu = group.kind === 'no-iommu';
    if (noiommu && !caller.credentials.capable('SYS_RAWIO')) {
      throw new VfioError('EPERM', 'a group without an IOMMU needs CAP_SYS_RAWIO', { syscall });
    }
    using _held = await this.lock.write();
    if (this.#groups.length > 0 && this.#noiommu !== noiommu) {
      throw new VfioError('EPERM', 'groups with and without an IOMMU do not mix', { syscall });
    }
    const iommuGroup = iommuGroupOf(group);
    await using undo = new Undo();
    if (group.kind === 'iommu') {
      iommuGroup.claimDmaOwner(group);
      undo.add(() => iommuGroup.releaseDmaOwner());
    }
    if (this.#chosen) await this.#chosen.backend.attachGroup(iommuGroup, group.kind);
    undo.keep();
    group.container = this;
    group.containerUsers = 1;
    this.#noiommu = noiommu;
    this.#groups.unshift(group);
  }

  /**
   * Detaches a group, whose lock is held. With the last one the driver goes too, and the container is as new.
   *
   * @throws whatever the driver throws, a bug of it; the group is out all the same
   * @source drivers/vfio/container.c vfio_group_detach_container()
   */
  async detachGroup(group: Group): Promise<void> {
    group.groupLock.assertHeld();
    this.vfio.host.log.warnOn(
      group.containerUsers !== 1,
      `group ${group.name} is detached with ${group.containerUsers} users`,
    );
    using _held = await this.lock.write();
    const iommuGroup = iommuGroupOf(group);
    const chosen = this.#chosen;
    await using rest = new Undo();
    if (chosen && this.#groups.length === 1) {
      rest.add(() => chosen.driver.module?.put());
      rest.add(async () => {
        this.#chosen = undefined;
        await chosen.backend.release();
      });
    }
    rest.add(() => {
      group.container = undefined;
      group.containerUsers = 0;
      this.#groups.splice(this.#groups.indexOf(group), 1);
    });
    if (group.kind === 'iommu') rest.add(() => iommuGroup.releaseDmaOwner());
    await chosen?.backend.detachGroup(iommuGroup);
  }

  /** A device of the container was opened: it hears about IOVA that goes away. */
  async registerDevice(device: DmaUnmapListener): Promise<void> {
    await this.#chosen?.backend.registerDevice?.(device);
  }

  /** The device was closed. */
  async unregisterDevice(device: DmaUnmapListener): Promise<void> {
    await this.#chosen?.backend.unregisterDevice?.(device);
  }

  /** The no-IOMMU driver serves groups without an IOMMU and nobody else. */
  #allows(driver: IommuDriver): boolean {
    if (!this.vfio.noiommuDriver) return true;
    return this.#noiommu === (driver === this.vfio.noiommuDriver);
  }
}

function pin(module: Module | undefined): boolean {
  return module ? module.tryGet() : true;
}

function iommuGroupOf(group: Group) {
  if (!group.iommuGroup) throw new VfioError('ENODEV', `the IOMMU group of group ${group.name} is gone`);
  return group.iommuGroup;
}
