// What is wrong with a machine file although every part of it is well formed: parts that do not go together.

import { optionConflict } from '@vfio/core';
import type { IommuSection, MachineFile } from './schema.js';
import type { Complaint } from './validate.js';

/** Smallest page that an IOMMU can have, in bytes. */
const smallestPage = 2048n;

/** The first contradiction in a file that its schema has accepted; undefined if there is none. */
export function firstContradiction(file: MachineFile): Complaint | undefined {
  const { iommu, devices = [] } = file.host ?? {};
  const conflict = optionConflict(file.vfio ?? {});
  if (conflict) return { path: ['vfio', conflict.option], problem: conflict.problem };
  return (typeof iommu === 'object' ? ofIommu(iommu) : undefined) ?? ofDevices(devices, iommu === 'none');
}

function ofIommu({ pageSizes, reserved = [] }: IommuSection): Complaint | undefined {
  const path = ['host', 'iommu'];
  if (pageSizes !== undefined) {
    const sizes = BigInt(pageSizes);
    const bits = sizes >= 1n << 64n || sizes === 0n || (sizes & -sizes) < smallestPage;
    const problem = `is ${pageSizes}: it must have one bit for each page size, from 2 KiB on`;
    if (bits) return { path: [...path, 'pageSizes'], problem };
  }
  for (const [i, { start, end }] of reserved.entries()) {
    if (BigInt(end) >= BigInt(start)) continue;
    return { path: [...path, 'reserved', i, 'end'], problem: `is ${end}, before the start at ${start}: swap them` };
  }
  return undefined;
}

function ofDevices(
  devices: readonly { readonly path: string; readonly iommuGroup?: string }[],
  withoutIommu: boolean,
): Complaint | undefined {
  const seen = new Set<string>();
  for (const [i, { path, iommuGroup }] of devices.entries()) {
    const at = ['host', 'devices', i];
    if (seen.has(path)) return { path: [...at, 'path'], problem: `'${path}' stands here twice: remove one` };
    seen.add(path);
    if (iommuGroup !== undefined && withoutIommu) {
      return { path: [...at, 'iommuGroup'], problem: 'there is no IOMMU: remove this, or host.iommu: none' };
    }
  }
  return undefined;
}
