/*
 * The IOMMUs of a host and the groups of its devices. A host may have none, one or several units; groups exist in any case,
 * because VFIO makes its own for devices that no hardware isolates.
 */
import type { Bus } from '../drivers/bus.js';
import type { Device } from '../drivers/device.js';
import { isSystemError, KernelBug, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import { IdAllocator } from '../sync/ids.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { Sysfs } from '../sysfs/sysfs.js';
import { DmaEngine, type DmaMemory, type MsiDoorbell } from './dma.js';
import { IommuDomain } from './domain.js';
import { IommuGroup } from './group.js';
import { enabledPasids, noPasids, type PasidSupport } from './pasids.js';
import type { ReservedRegion } from './reserved.js';
import { type IommuOptions, IommuUnit } from './unit.js';

/** What the IOMMUs of a host stand on. */
export interface IommuEnvironment {
  readonly seams: Seams;
  /** where translated accesses end up */
  readonly memory: DmaMemory;
  readonly sysfs: Sysfs;
  /** where writes to the interrupt window go; they are plain writes without it */
  readonly doorbell?: MsiDoorbell;
}

/** How a device sits behind the hardware. */
export interface ProbeOptions {
  /** the unit that translates for it; the first one when absent */
  readonly unit?: IommuUnit;
  /** the group it belongs to, as the bus found; a new one when absent */
  readonly group?: IommuGroup;
  /** regions of this device alone, such as memory that firmware reads through it */
  readonly reserved?: readonly ReservedRegion[];
  /** PASIDs that its bus has enabled in the device; it has as many of them as its unit; none when absent */
  readonly pasids?: Partial<PasidSupport>;
}

/** What `Iommu.capable` can be asked. Source: include/linux/iommu.h enum iommu_cap */
export type IommuCapability = 'cache-coherency' | 'enforce-cache-coherency' | 'dirty-tracking';

/** The hardware side of a device: which unit, what is kept from it, and how it tags requests. */
interface DeviceIommu {
  readonly unit: IommuUnit;
  readonly reserved: readonly ReservedRegion[];
  readonly pasids: PasidSupport;
}

const MAX_GROUP_ID = 0x7fff_ffff;

/**
 * IOMMU units, groups, and the link between devices and both.
 *
 * @source drivers/iommu/iommu.c
 */
export class Iommu {
  readonly seams: Seams;
  /** /sys/kernel/iommu_groups */
  readonly groupsDir: SysfsDir;
  readonly #environment: IommuEnvironment;
  readonly #units: IommuUnit[] = [];
  readonly #groups = new Map<number, IommuGroup>();
  readonly #ids: IdAllocator;
  readonly #devices = new Map<Device, DeviceIommu>();

  /** @param options - the first unit; a host without has no IOMMU until `addUnit` */
  constructor(environment: IommuEnvironment, options?: IommuOptions) {
    this.seams = environment.seams;
    this.#environment = environment;
    this.groupsDir = environment.sysfs.kernel.mkdir('iommu_groups');
    this.#ids = new IdAllocator(this.seams, 'iommu_group', MAX_GROUP_ID);
    if (options !== undefined) this.addUnit(options);
  }

  /** Whether the machine has any IOMMU. */
  get present(): boolean {
    return this.#units.length > 0;
  }

  /** The units, in the order in which they were added. */
  get units(): readonly IommuUnit[] {
    return this.#units;
  }

  /** Groups by number. */
  get groups(): ReadonlyMap<number, IommuGroup> {
    return this.#groups;
  }

  /** Puts one more unit into the machine. */
  addUnit(options: IommuOptions): IommuUnit {
    const unit = new IommuUnit(this.seams, `dmar${this.#units.length}`, options);
    this.#units.push(unit);
    return unit;
  }

  /**
   * Makes a group with the lowest free number, without devices and without a default domain.
   *
   * @param name - shown in the group's `name` file, which is not there without one
   * @returns a group with one reference, which is the caller's
   * @throws ENOMEM, ENOSPC - no memory or number
   * @source drivers/iommu/iommu.c iommu_group_alloc(), iommu_group_set_name()
   */
  allocGroup(name?: string): IommuGroup {
    const id = this.#ids.alloc();
    try {
      const group = new IommuGroup(this, id, name, () => {
        this.#groups.delete(id);
        this.#ids.free(id);
      });
      this.#groups.set(id, group);
      return group;
    } catch (error) {
      this.#ids.free(id);
      throw error;
    }
  }

  /** The group of a device; no reference is taken. */
  groupOf(device: Device): IommuGroup | undefined {
    return device.iommuGroup;
  }

  /** The unit that translates for a device; undefined for devices that no hardware stands behind. */
  unitOf(device: Device): IommuUnit | undefined {
    return this.#devices.get(device)?.unit;
  }

  /** What a device and its unit can do with PASIDs. Source: include/linux/iommu.h struct dev_iommu max_pasids */
  pasidsOf(device: Device): PasidSupport {
    return this.#devices.get(device)?.pasids ?? noPasids;
  }

  /** What a device must not use: regions of its unit and its own. */
  reservedOf(device: Device): readonly ReservedRegion[] {
    const entry = this.#devices.get(device);
    return entry === undefined ? [] : [...entry.unit.reserved, ...entry.reserved];
  }

  /**
   * Puts a device that sits behind hardware under its control: finds or makes its group, and gives that its default domain.
   * Called by the bus once the device has its directory.
   *
   * @returns the device's group; no reference is taken
   * @throws ENODEV - the machine has no IOMMU
   * @throws EINVAL - the device's unit cannot work in the domain that the group is attached to
   * @throws ENOMEM - no memory; the device is as it was
   * @source drivers/iommu/iommu.c iommu_probe_device()
   */
  probeDevice(device: Device, options: ProbeOptions = {}): IommuGroup {
    const call = { syscall: 'iommu_probe_device', subject: device.name };
    const unit = options.unit ?? this.#units[0];
    if (unit === undefined) throw new SystemError('ENODEV', 'the machine has no IOMMU', call);
    if (options.group?.domain !== undefined && !unit.supports(options.group.domain)) {
      throw new SystemError('EINVAL', `${unit.name} cannot work in the domain of the group`, call);
    }
    this.seams.faults.check('iommu_probe_device:dev_iommu');
    const group = options.group?.get() ?? this.allocGroup();
    const entry = { unit, reserved: options.reserved ?? [], pasids: enabledPasids(unit, options.pasids) };
    try {
      this.#devices.set(device, entry);
      this.addDevice(group, device);
      if (group.defaultDomain === undefined) group.setupDefaultDomain(unit);
      else group.adoptRegions(this.reservedOf(device));
      unit.linkDevice(device);
    } catch (error) {
      if (device.iommuGroup === group) this.#leaveGroup(group, device);
      this.#devices.delete(device);
      throw error;
    } finally {
      group.put(); // the device holds the group now
    }
    return group;
  }

  /**
   * Puts a device into a group, which is all there is to it for devices that no hardware stands behind.
   *
   * @throws EEXIST, ENOMEM - the links of sysfs; nothing is left of them
   * @source drivers/iommu/iommu.c iommu_group_add_device()
   */
  addDevice(group: IommuGroup, device: Device): void {
    if (device.iommuGroup !== undefined) {
      throw new KernelBug('driver', `${device.name} is in IOMMU group ${device.iommuGroup.id} already`);
    }
    this.seams.faults.check('iommu_group_add_device:group_device');
    device.sysfs.addLink('iommu_group', group.sysfs);
    try {
      group.addMember(device);
    } catch (error) {
      device.sysfs.removeEntry('iommu_group');
      throw error;
    }
    device.iommuGroup = group;
    this.#log(device, `Adding to iommu group ${group.id}`);
  }

  /**
   * Takes a device out of its group, and away from its unit if it has one. The group ends with it unless somebody holds it.
   *
   * @source drivers/iommu/iommu.c iommu_group_remove_device(), iommu_release_device()
   */
  removeDevice(device: Device): void {
    const group = device.iommuGroup;
    this.unitOf(device)?.unlinkDevice(device);
    if (group !== undefined) {
      this.#log(device, `Removing from iommu group ${group.id}`);
      this.#leaveGroup(group, device);
    }
    this.#devices.delete(device);
  }

  /**
   * Puts every device that appears on a bus under the control of its unit, before a driver can probe it, until disposed of. A
   * device that fails here stays without an IOMMU, as in the kernel.
   *
   * @param place - says how a device sits behind the hardware; undefined for one that does not
   * @source drivers/iommu/iommu.c iommu_bus_notifier()
   */
  watchBus(bus: Bus, place: (device: Device) => ProbeOptions | undefined): Disposable {
    return bus.subscribe((event, device) => {
      if (event === 'removed-device') this.removeDevice(device);
      if (event !== 'add-device') return;
      const options = place(device);
      if (options === undefined) return;
      try {
        this.probeDevice(device, options);
      } catch (error) {
        if (!isSystemError(error)) throw error;
      }
    });
  }

  /**
   * Asks what the hardware behind a device can do; without hardware it can nothing.
   *
   * @source drivers/iommu/iommu.c device_iommu_capable()
   */
  capable(device: Device, capability: IommuCapability): boolean {
    const unit = this.unitOf(device);
    switch (capability) {
      case 'cache-coherency':
        return unit?.coherent ?? false;
      case 'enforce-cache-coherency':
        return unit?.enforceCoherency ?? false;
      case 'dirty-tracking':
        return unit?.dirtyTracking ?? false;
    }
  }

  /**
   * Makes an empty address space for a device, as its unit can do it.
   *
   * @returns a domain that the caller owns until its `free`
   * @throws ENODEV - no hardware stands behind the device
   * @throws EOPNOTSUPP - dirty tracking was asked for and the hardware has none
   * @throws ENOMEM - no memory
   * @source drivers/iommu/iommu.c iommu_paging_domain_alloc_flags()
   */
  allocDomain(device: Device, options: { readonly dirtyTracking?: boolean } = {}): IommuDomain {
    const unit = this.unitOf(device);
    if (unit === undefined) {
      const call = { syscall: 'iommu_domain_alloc', subject: device.name };
      throw new SystemError('ENODEV', 'no IOMMU behind the device', call);
    }
    return new IommuDomain(this.seams, unit, { kind: 'unmanaged', dirtyTracking: options.dirtyTracking ?? false });
  }

  /**
   * A native driver is about to be bound. Nothing happens to devices without a group.
   *
   * @throws EBUSY - somebody else owns the DMA of the device's group
   * @source drivers/iommu/iommu.c iommu_device_use_default_domain()
   */
  useDefaultDomain(device: Device): void {
    device.iommuGroup?.useDefaultDomain();
  }

  /** A native driver has been unbound. Source: drivers/iommu/iommu.c iommu_device_unuse_default_domain() */
  unuseDefaultDomain(device: Device): void {
    device.iommuGroup?.unuseDefaultDomain();
  }

  /**
   * Claims the DMA of a device's group for an owner; the same owner may claim through several devices.
   *
   * @throws ENODEV - the device has no group
   * @throws EPERM - another owner or a native driver has the group
   * @throws EBUSY - a domain is attached that is not the group's own
   * @source drivers/iommu/iommu.c iommu_device_claim_dma_owner()
   */
  claimDeviceDmaOwner(device: Device, owner: object): void {
    const group = device.iommuGroup;
    if (group === undefined) {
      const call = { syscall: 'iommu_device_claim_dma_owner', subject: device.name };
      throw new SystemError('ENODEV', 'the device has no group', call);
    }
    group.claimDeviceDmaOwner(owner);
  }

  /** Takes back one claim of `claimDeviceDmaOwner`. Source: drivers/iommu/iommu.c iommu_device_release_dma_owner() */
  releaseDeviceDmaOwner(device: Device): void {
    device.iommuGroup?.releaseDeviceDmaOwner();
  }

  /** The device's own way to memory: what its hardware model reads and writes with. */
  dma(device: Device): DmaEngine {
    const { memory, doorbell } = this.#environment;
    return new DmaEngine(device.name, memory, doorbell, {
      unit: () => this.unitOf(device),
      domain: () => device.iommuGroup?.domain,
      pasids: () => this.pasidsOf(device).max,
      pasidDomain: (pasid) => device.iommuGroup?.pasidDomain(pasid),
    });
  }

  #leaveGroup(group: IommuGroup, device: Device): void {
    device.iommuGroup = undefined;
    device.sysfs.removeEntry('iommu_group');
    group.removeMember(device);
  }

  #log(device: Device, text: string): void {
    this.seams.log.info(text, device.logName());
  }
}
