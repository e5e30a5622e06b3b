// What a machine has before any driver package adds to it: the IOMMU, and devices that are only there.

import { Device, type Host, type IommuOptions } from '@vfio/host';
import type { FileNumber, IommuSection, MachineFile } from './schema.js';

const defaultAddressBits = 48;
/** 4 KiB, 2 MiB and 1 GiB. */
const defaultPageSizes = 0x4020_1000n;
/** Where devices of a PC write to raise an interrupt. */
const msiWindow = { start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' } as const;

/** The IOMMU of a host, in the host's own words. */
export function iommuOptions(section: 'none' | IommuSection | undefined): { iommu?: IommuOptions } {
  if (section === 'none') return {};
  const {
    name,
    addressBits = defaultAddressBits,
    pageSizes,
    coherent = true,
    enforceCoherency = coherent,
    msiIsolated = true,
    dirtyTracking = false,
    maxPasids,
    reserved,
  } = section ?? {};
  return {
    iommu: {
      ...(name === undefined ? {} : { name }),
      aperture: [0n, (1n << BigInt(addressBits)) - 1n],
      pageSizes: pageSizes === undefined ? defaultPageSizes : number(pageSizes),
      coherent,
      enforceCoherency,
      msiIsolated,
      dirtyTracking,
      ...(maxPasids === undefined ? {} : { maxPasids }),
      reserved: reserved
        ? reserved.map((region) => ({ start: number(region.start), end: number(region.end), type: region.type }))
        : [msiWindow],
    },
  };
}

function number(value: FileNumber): bigint {
  return BigInt(value);
}

type ChipsetDevices = NonNullable<NonNullable<MachineFile['host']>['devices']>;

/** Adds the devices that the file lists below /sys/devices, and the ones on the way to them; shutdown takes them out. */
export async function buildDevices(host: Host, devices: ChipsetDevices): Promise<void> {
  const known = new Map<string, Device>();
  const groups = new Map<string, Device>();
  for (const { path, iommuGroup } of devices) {
    let parent: Device | undefined;
    const names = path.split('/');
    for (const [i, name] of names.entries()) {
      const at = names.slice(0, i + 1).join('/');
      let device = known.get(at);
      if (!device) {
        const added = new Device({ name, ...(parent ? { parent } : {}) });
        host.devices.init(added);
        try {
          await host.devices.add(added);
        } catch (error) {
          added.put();
          throw error;
        }
        host.atShutdown(async () => {
          if (added.iommuGroup) host.iommu.removeDevice(added);
          await host.devices.unregister(added);
        });
        known.set(at, added);
        device = added;
      }
      parent = device;
    }
    if (!parent || iommuGroup === undefined) continue;
    const companion = groups.get(iommuGroup);
    const group = companion?.iommuGroup;
    host.iommu.probeDevice(parent, group ? { group } : {});
    groups.set(iommuGroup, parent);
  }
}
