/*
 * Process address space ids: a device can tag its requests with a number, and the IOMMU then translates them through a
 * domain of that number's own. As everything else of a group, the attachments are those of all of its devices.
 */
import type { Device } from '../drivers/device.js';
import { SystemError } from '../errors.js';
import type { IommuDomain } from './domain.js';
import type { IommuGroup } from './group.js';
import type { Iommu } from './iommu.js';
import type { IommuUnit } from './unit.js';

/** The number of requests without a tag. Source: include/linux/iommu.h IOMMU_NO_PASID */
export const NO_PASID = 0;
/** Tags have 20 bits. Source: PCI Express Base Specification, PASID TLP Prefix */
export const PASID_LIMIT = 1 << 20;

/** What a device can do with PASIDs, once its bus has enabled them. */
export interface PasidSupport {
  /** How many there are, from 0 on; 0 for a device that tags nothing. */
  readonly max: number;
  /** Requests can ask for the right to execute. */
  readonly exec: boolean;
  /** Requests can ask for privileges. */
  readonly priv: boolean;
}

/** Of a device that tags nothing. */
export const noPasids: PasidSupport = { max: 0, exec: false, priv: false };

/**
 * What is left of a device's PASIDs behind a unit.
 *
 * @source drivers/iommu/iommu.c dev_iommu_get_max_pasids()
 */
export function enabledPasids(unit: IommuUnit, device: Partial<PasidSupport> | undefined): PasidSupport {
  const max = Math.min(unit.maxPasids ?? 0, device?.max ?? 0);
  return max === 0 ? noPasids : { max, exec: device?.exec === true, priv: device?.priv === true };
}

/** The domains of a group's PASIDs. Source: drivers/iommu/iommu.c struct iommu_group pasid_array */
export class GroupPasids {
  readonly #iommu: Iommu;
  readonly #group: IommuGroup;
  readonly #domains = new Map<number, IommuDomain>();

  /** Use `IommuGroup.pasids`. */
  constructor(iommu: Iommu, group: IommuGroup) {
    this.#iommu = iommu;
    this.#group = group;
  }

  /** How many PASIDs are attached. */
  get size(): number {
    return this.#domains.size;
  }

  /** What requests with a PASID go through; undefined for one that is not attached. */
  domainOf(pasid: number): IommuDomain | undefined {
    return this.#domains.get(pasid);
  }

  /**
   * Translates requests that are tagged with a PASID through a domain, for every device of the group that tags requests.
   * Devices that do not are left out: they cannot send any.
   *
   * @throws EOPNOTSUPP - the unit that made the domain knows no PASIDs
   * @throws EINVAL - the PASID of untagged requests, one that a device does not have, or a domain that a unit of the group
   *   cannot use so; dirty bits are kept for untagged requests only
   * @throws EBUSY - the PASID is attached already
   * @source drivers/iommu/iommu.c iommu_attach_device_pasid()
   */
  attach(domain: IommuDomain, pasid: number): void {
    const syscall = 'iommu_attach_device_pasid';
    if (domain.unit.maxPasids === undefined) {
      throw this.#error('EOPNOTSUPP', `${domain.unit.name} knows no PASIDs`, syscall);
    }
    if (pasid === NO_PASID) throw this.#error('EINVAL', 'PASID 0 is that of untagged requests', syscall);
    for (const device of this.#taggers()) {
      const { max } = this.#iommu.pasidsOf(device);
      if (pasid >= max) throw this.#error('EINVAL', `${device.name} has ${max} PASIDs, not ${pasid}`, syscall);
    }
    if (this.#domains.has(pasid)) throw this.#error('EBUSY', `PASID ${pasid} is attached`, syscall);
    this.#assertUsable(domain, syscall);
    domain.addPasid(this.#group);
    this.#domains.set(pasid, domain);
  }

  /**
   * Moves an attached PASID to another domain, at once: no request meets neither of them. It stays where it is when this
   * fails.
   *
   * @throws EINVAL - the PASID is not attached, or a unit of the group cannot use the domain so
   * @source drivers/iommu/iommu.c iommu_replace_device_pasid()
   */
  replace(domain: IommuDomain, pasid: number): void {
    const syscall = 'iommu_replace_device_pasid';
    const old = this.#domains.get(pasid);
    if (old === undefined) throw this.#error('EINVAL', `PASID ${pasid} is not attached`, syscall);
    this.#assertUsable(domain, syscall);
    domain.addPasid(this.#group);
    this.#domains.set(pasid, domain);
    old.removePasid(this.#group);
  }

  /**
   * Blocks requests with a PASID.
   *
   * @source drivers/iommu/iommu.c iommu_detach_device_pasid()
   */
  detach(domain: IommuDomain, pasid: number): void {
    const other = this.#domains.get(pasid) !== domain;
    const what = `PASID ${pasid} of group ${this.#group.id} is not attached to this domain`;
    if (this.#iommu.seams.log.warnOn(other, what)) return;
    this.#domains.delete(pasid);
    domain.removePasid(this.#group);
  }

  /** The devices that tag requests. */
  #taggers(): Device[] {
    return this.#group.devices.filter((device) => this.#iommu.pasidsOf(device).max > 0);
  }

  #assertUsable(domain: IommuDomain, syscall: string): void {
    for (const device of this.#taggers()) {
      const unit = this.#iommu.unitOf(device);
      if (unit?.supports(domain) !== true || domain.canTrackDirty) {
        throw this.#error('EINVAL', `${device.name}: ${unit?.name} cannot use the domain for PASIDs`, syscall);
      }
      this.#iommu.seams.faults.check(`${syscall}:${device.name}`);
    }
  }

  #error(code: 'EBUSY' | 'EINVAL' | 'EOPNOTSUPP', reason: string, syscall: string): SystemError {
    return new SystemError(code, reason, { syscall, subject: `group ${this.#group.id}` });
  }
}
