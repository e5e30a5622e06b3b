/*
 * IOMMU groups: devices that the hardware cannot tell apart or keep from each other, and that therefore have one owner and
 * one address space.
 */
import type { Device } from '../drivers/device.js';
import { SystemError } from '../errors.js';
import { Kref } from '../sync/kref.js';
import type { Attribute } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { LazyEntry } from '../sysfs/lazy.js';
import { type DomainKind, IommuDomain } from './domain.js';
import { addGroupFiles, groupFile } from './group-files.js';
import type { Iommu } from './iommu.js';
import { GroupPasids } from './pasids.js';
import { mapDirect, mergeReservedRegions, type ReservedRegion } from './reserved.js';
import type { IommuUnit } from './unit.js';

/** What `/sys/kernel/iommu_groups/<id>/type` says; 'unknown' is a group without a default domain. */
export type GroupType = DomainKind | 'unknown';

/**
 * A group. Counted: `Iommu.allocGroup` gives its caller one reference, every device in the group holds another, and with
 * the last one its directory and its number are gone.
 *
 * @source drivers/iommu/iommu.c struct iommu_group
 */
export class IommuGroup implements LazyEntry {
  readonly id: number;
  readonly name: string | undefined;
  readonly #iommu: Iommu;
  readonly #dir: SysfsDir;
  readonly #devicesDir: SysfsDir;
  readonly #kref: Kref;
  /** Devices with the name of their link in `devices/`. */
  readonly #devices = new Map<Device, string>();
  #defaultDomain: IommuDomain | undefined;
  #blockingDomain: IommuDomain | undefined;
  #domain: IommuDomain | undefined;
  #pasids: GroupPasids | undefined;
  #owner: object | undefined;
  #ownerCount = 0;
  readonly #gone: () => void;

  /** Use `Iommu.allocGroup`. */
  constructor(iommu: Iommu, id: number, name: string | undefined, released: () => void) {
    const { seams } = iommu;
    seams.faults.check('iommu_group_alloc:group');
    this.#iommu = iommu;
    this.id = id;
    this.name = name;
    this.#dir = iommu.groupsDir.mkdir(String(id));
    try {
      this.#devicesDir = this.#dir.mkdir('devices');
      addGroupFiles(this, this.#dir);
    } catch (error) {
      this.#dir.remove();
      throw error;
    }
    this.#kref = new Kref(seams, this, 'group');
    this.#gone = released;
  }

  /** Names it in reports. */
  describe(): string {
    return `IOMMU group ${this.id}`;
  }

  /** The last reference is gone. */
  released(): void {
    this.#release();
    this.#gone();
  }

  /** Its directory below /sys/kernel/iommu_groups. */
  get sysfs(): SysfsDir {
    return this.#dir;
  }

  /** The members, in the order in which they came. */
  get devices(): readonly Device[] {
    return [...this.#devices.keys()];
  }

  /** What the devices use while nobody claims them. */
  get defaultDomain(): IommuDomain | undefined {
    return this.#defaultDomain;
  }

  /** What the devices use now. */
  get domain(): IommuDomain | undefined {
    return this.#domain;
  }

  /** What tagged requests of the devices go through. */
  get pasids(): GroupPasids {
    this.#pasids ??= new GroupPasids(this.#iommu, this);
    return this.#pasids;
  }

  /** What requests go through that are tagged with a PASID; undefined for one that is not attached. */
  pasidDomain(pasid: number): IommuDomain | undefined {
    return this.#pasids?.domainOf(pasid);
  }

  /** The kind of the default domain. */
  get type(): GroupType {
    return this.#defaultDomain?.kind ?? 'unknown';
  }

  /** Describes a file of its directory. */
  describeEntry(name: string): Attribute {
    return groupFile(this, this.#iommu, name);
  }

  /** Takes a reference. */
  get(): this {
    this.#kref.get();
    return this;
  }

  /** Gives a reference back; the last one ends the group. */
  put(): void {
    this.#kref.put();
  }

  /**
   * Claims the whole group for one owner that is not a native driver: all of it is cut off from memory until a domain is
   * attached.
   *
   * @param owner - compared by identity
   * @throws EPERM - somebody owns the group already, or a native driver uses a device of it
   * @throws EBUSY - a domain is attached that is not the group's own
   * @throws ENODEV - the group is empty
   * @source drivers/iommu/iommu.c iommu_group_claim_dma_owner()
   */
  claimDmaOwner(owner: object): void {
    if (this.#ownerCount > 0) throw this.#error('EPERM', this.useReason, 'iommu_group_claim_dma_owner');
    this.#takeOwnership(owner, 'iommu_group_claim_dma_owner');
  }

  /**
   * Claims the group through one of its devices. Each further claim by the same owner is counted.
   *
   * @throws EPERM - another owner has it, or a native driver uses a device of it
   * @throws EBUSY - a domain is attached that is not the group's own
   * @source drivers/iommu/iommu.c iommu_device_claim_dma_owner()
   */
  claimDeviceDmaOwner(owner: object): void {
    if (this.#ownerCount === 0) {
      this.#takeOwnership(owner, 'iommu_device_claim_dma_owner');
      return;
    }
    if (this.#owner !== owner) throw this.#error('EPERM', this.useReason, 'iommu_device_claim_dma_owner');
    this.#ownerCount++;
  }

  /**
   * Ends the claim of `claimDmaOwner`: the devices go back to the default domain.
   *
   * @source drivers/iommu/iommu.c iommu_group_release_dma_owner()
   */
  releaseDmaOwner(): void {
    const { log } = this.#iommu.seams;
    if (log.warnOn(this.#ownerCount === 0 || this.#owner === undefined, `group ${this.id} has no DMA owner`)) return;
    log.warnOn(this.#hasPasids, `group ${this.id} loses its DMA owner with PASIDs attached`);
    this.#ownerCount = 0;
    this.#owner = undefined;
    this.#switchTo(this.#defaultDomain);
  }

  /**
   * Ends one claim of `claimDeviceDmaOwner`, the last one as `releaseDmaOwner` does.
   *
   * @source drivers/iommu/iommu.c iommu_device_release_dma_owner()
   */
  releaseDeviceDmaOwner(): void {
    if (this.#ownerCount > 1) this.#ownerCount--;
    else this.releaseDmaOwner();
  }

  /** Whether somebody uses the group's DMA, be it an owner or a native driver. */
  dmaOwnerClaimed(): boolean {
    return this.#ownerCount > 0;
  }

  /** Who uses the group's DMA, in words. */
  get useReason(): string {
    if (this.#owner !== undefined) return 'the group has a DMA owner';
    return `native drivers use ${this.#ownerCount} of its devices`;
  }

  /**
   * A native driver is about to use DMA of one device. Counted for each device.
   *
   * @throws EBUSY - an owner has the group
   * @source drivers/iommu/iommu.c iommu_device_use_default_domain()
   */
  useDefaultDomain(): void {
    const used = this.#owner !== undefined || this.#domain !== this.#defaultDomain || this.#hasPasids;
    if (this.#ownerCount > 0 && used) {
      throw this.#error('EBUSY', this.useReason, 'iommu_device_use_default_domain');
    }
    this.#ownerCount++;
  }

  /**
   * A native driver has let go of its device.
   *
   * @source drivers/iommu/iommu.c iommu_device_unuse_default_domain()
   */
  unuseDefaultDomain(): void {
    const unused = this.#ownerCount === 0 || this.#owner !== undefined;
    if (this.#iommu.seams.log.warnOn(unused, `group ${this.id} is not used through its default domain`)) return;
    this.#ownerCount--;
  }

  /**
   * Puts all devices into `domain`.
   *
   * @throws EBUSY - another domain than the default or the blocking one is attached
   * @throws EINVAL - the group has no hardware behind it, or a device's unit cannot work in the domain
   * @source drivers/iommu/iommu.c iommu_attach_group()
   */
  attach(domain: IommuDomain): void {
    if (this.#domain !== undefined && this.#domain !== this.#defaultDomain && this.#domain !== this.#blockingDomain) {
      throw this.#error('EBUSY', 'another domain is attached', 'iommu_attach_group');
    }
    this.#assertCompatible(domain);
    for (const device of this.#devices.keys()) this.#iommu.seams.faults.check(`iommu_attach_group:${device.name}`);
    this.#switchTo(domain);
  }

  /**
   * Moves all devices to `domain` at once: no request meets neither domain. They stay where they are when this fails.
   *
   * @throws EINVAL - a device's unit cannot work in the domain
   * @source drivers/iommu/iommu.c iommu_replace_group_handle()
   */
  replace(domain: IommuDomain): void {
    this.#assertCompatible(domain);
    for (const device of this.#devices.keys()) this.#iommu.seams.faults.check(`iommu_replace_group:${device.name}`);
    this.#switchTo(domain);
  }

  /**
   * Takes the devices out of `domain`: back to the default domain, or cut off while somebody owns the group.
   *
   * @source drivers/iommu/iommu.c iommu_detach_group()
   */
  detach(domain: IommuDomain): void {
    const { log } = this.#iommu.seams;
    if (log.warnOn(this.#domain !== domain, `group ${this.id} is not attached to this domain`)) return;
    this.#switchTo(this.#owner === undefined ? this.#defaultDomain : this.#blockingDomain);
  }

  /**
   * What the devices must not use, sorted and joined. Devices without hardware behind them have nothing to say.
   *
   * @throws ENOMEM - no memory for the list
   * @source drivers/iommu/iommu.c iommu_get_group_resv_regions()
   */
  reservedRegions(): ReservedRegion[] {
    const regions: ReservedRegion[] = [];
    for (const device of this.#devices.keys()) {
      for (const region of this.#iommu.reservedOf(device)) {
        this.#iommu.seams.faults.check('iommu_get_group_resv_regions:region');
        regions.push(region);
      }
    }
    return mergeReservedRegions(regions);
  }

  /**
   * Whether no device of the group can raise an interrupt that is not its own.
   *
   * @source drivers/iommu/iommu.c iommu_group_has_isolated_msi()
   */
  hasIsolatedMsi(): boolean {
    return [...this.#devices.keys()].every((device) => this.#iommu.unitOf(device)?.msiIsolated === true);
  }

  /** Whether every unit behind the group can override no-snoop requests. */
  canEnforceCoherency(): boolean {
    return [...this.#devices.keys()].every((device) => this.#iommu.unitOf(device)?.enforceCoherency === true);
  }

  /** Takes a device in. Called by `Iommu`, which keeps the links of the device's side. */
  addMember(device: Device): void {
    const link = this.#linkDevice(device);
    this.#devices.set(device, link);
    this.get();
  }

  /** Lets a device go. Called by `Iommu`. */
  removeMember(device: Device): void {
    const link = this.#devices.get(device);
    if (link === undefined) return;
    this.#devices.delete(device);
    this.#devicesDir.removeEntry(link);
    const left = this.#devices.size > 0 || (this.#ownerCount === 0 && this.#domain === this.#defaultDomain);
    this.#iommu.seams.log.warnOn(!left, `group ${this.id} is empty and still in use`);
    this.put();
  }

  /**
   * Gives the group the default domain of its hardware, with firmware's regions mapped one to one. A group that has one
   * keeps it. Called by `Iommu` when a device with hardware behind it has joined.
   *
   * @throws ENOMEM - no memory for the domain
   * @source drivers/iommu/iommu.c iommu_setup_default_domain()
   */
  setupDefaultDomain(unit: IommuUnit, kind: DomainKind = unit.defaultDomain): void {
    const regions = this.reservedRegions();
    const domain = new IommuDomain(this.#iommu.seams, unit, { kind });
    try {
      mapDirect(domain, regions);
    } catch (error) {
      domain.free();
      throw error;
    }
    const old = this.#defaultDomain;
    this.#defaultDomain = domain;
    if (this.#domain === old) this.#switchTo(domain);
    old?.free();
  }

  /**
   * A device has joined a group that has its default domain already: maps the regions of firmware that it brings.
   * Called by `Iommu`.
   */
  adoptRegions(regions: readonly ReservedRegion[]): void {
    if (this.#defaultDomain !== undefined) mapDirect(this.#defaultDomain, regions);
  }

  #takeOwnership(owner: object, syscall: string): void {
    const [first] = this.#devices.keys();
    if (first === undefined) throw this.#error('ENODEV', 'the group is empty', syscall);
    if ((this.#domain !== undefined && this.#domain !== this.#defaultDomain) || this.#hasPasids) {
      throw this.#error('EBUSY', 'a foreign domain is attached', syscall);
    }
    const unit = this.#iommu.unitOf(first);
    if (unit === undefined) throw this.#error('EINVAL', 'no IOMMU behind the group', syscall);
    this.#blockingDomain ??= new IommuDomain(this.#iommu.seams, unit, { kind: 'blocked' });
    this.#switchTo(this.#blockingDomain);
    this.#owner = owner;
    this.#ownerCount = 1;
  }

  get #hasPasids(): boolean {
    return (this.#pasids?.size ?? 0) > 0;
  }

  #switchTo(domain: IommuDomain | undefined): void {
    if (this.#domain === domain) return;
    domain?.addGroup(this);
    this.#domain?.removeGroup(this);
    this.#domain = domain;
  }

  #assertCompatible(domain: IommuDomain): void {
    for (const device of this.#devices.keys()) {
      const unit = this.#iommu.unitOf(device);
      if (unit?.supports(domain) !== true) {
        const reason = unit === undefined ? 'has no IOMMU' : `${unit.name} cannot work in this domain`;
        throw this.#error('EINVAL', `${device.name}: ${reason}`, 'iommu_attach_group');
      }
    }
    if (this.#devices.size === 0) throw this.#error('EINVAL', 'the group is empty', 'iommu_attach_group');
  }

  /** Two devices of one name (on two buses) can be in a group: the later one's link gets a number. */
  #linkDevice(device: Device): string {
    for (let suffix = -1; ; suffix++) {
      const name = suffix < 0 ? device.name : `${device.name}.${suffix}`;
      if (this.#devicesDir.lookup(name) !== undefined) continue;
      this.#devicesDir.addLink(name, device.sysfs);
      return name;
    }
  }

  #release(): void {
    this.#switchTo(undefined);
    this.#defaultDomain?.free();
    this.#blockingDomain?.free();
    this.#dir.remove();
  }

  #error(code: 'EPERM' | 'EBUSY' | 'EINVAL' | 'ENODEV', reason: string, syscall: string): SystemError {
    return new SystemError(code, reason, { syscall, subject: `group ${this.id}` });
  }
}
