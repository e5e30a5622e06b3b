/*
 * The files of a group in /sys/kernel/iommu_groups/<id>.
 */
import { SystemError } from '../errors.js';
import type { Process } from '../process/process.js';
import type { Attribute } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import { sysfsStreq } from '../sysfs/parse.js';
import type { IommuGroup } from './group.js';
import type { Iommu } from './iommu.js';
import { formatReservedRegions } from './reserved.js';

/** What can be written to `type`, besides 'auto'. */
const kinds = ['identity', 'DMA', 'DMA-FQ'] as const;

/**
 * Makes the files of a group, which describes them when somebody looks.
 *
 * @throws ENOMEM
 */
export function addGroupFiles(group: IommuGroup, dir: SysfsDir): void {
  dir.addLazyFile('reserved_regions', group);
  dir.addLazyFile('type', group);
  if (group.name !== undefined) dir.addLazyFile('name', group);
}

/** Describes one of them. */
export function groupFile(group: IommuGroup, iommu: Iommu, name: string): Attribute {
  switch (name) {
    case 'reserved_regions':
      return { name, mode: 0o444, show: () => formatReservedRegions(group.reservedRegions()) };
    case 'type': {
      const show = () => `${group.type}\n`;
      return { name, mode: 0o644, show, store: (text, process) => storeType(group, iommu, text, process) };
    }
    default:
      return { name, mode: 0o444, show: () => `${group.name}\n` };
  }
}

/** Changes the kind of the default domain. Source: drivers/iommu/iommu.c iommu_group_store_type() */
function storeType(group: IommuGroup, iommu: Iommu, text: string, { credentials }: Process): void {
  const refuse = (code: 'EACCES' | 'EINVAL' | 'EPERM', reason: string) =>
    new SystemError(code, reason, { syscall: 'write', subject: `group ${group.id}` });
  if (!credentials.capable('SYS_ADMIN') || !credentials.capable('SYS_RAWIO')) {
    throw refuse('EACCES', 'needs SYS_ADMIN and SYS_RAWIO');
  }
  const [first] = group.devices;
  const unit = first === undefined ? undefined : iommu.unitOf(first);
  if (unit === undefined || group.defaultDomain === undefined) {
    throw refuse('EINVAL', 'the group has no default domain');
  }
  const kind = sysfsStreq(text, 'auto') ? unit.defaultDomain : kinds.find((word) => sysfsStreq(text, word));
  if (kind === undefined) throw refuse('EINVAL', `unknown type ${JSON.stringify(text)}`);
  if (group.dmaOwnerClaimed()) throw refuse('EPERM', group.useReason);
  group.setupDefaultDomain(unit, kind);
}
