// Machines with PCI functions, all of them given to vfio-pci, and one of them in the hands of a program.

import { Extension, Request, Vfio } from '@vfio/core';
import { Host, type IommuOptions, O, type Process } from '@vfio/host';
import { defineVfioPci } from '@vfio/pci';
import { pciInit } from '@vfio/pci/bus';
import { assignFirmware, Edu, EmulatedRoot, rootPort } from '@vfio/pci/hardware';

const iommu: IommuOptions = {
  aperture: [0n, (1n << 48n) - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [],
};

/** Functions of one device: as many as there can be behind a port. */
const functionsOfDevice = 8;
/** From 00:01.0 on. */
const firstPort = 0x08;

/** A machine whose functions are bound. */
export interface PciLab {
  readonly host: Host;
  /** Addresses of the functions: `0000:01:00.0`. */
  readonly names: readonly string[];
}

/** A machine with so many edu cards, eight in one slot behind a root port each. It is up when all of them are vfio-pci's. */
export async function createPciLab(checked: boolean, functions: number): Promise<PciLab> {
  const host = new Host({ checked, iommu });
  const vfio = new Vfio(host, { iommufd: false, deviceCdev: false });
  defineVfioPci(vfio);
  const bus = await pciInit(host);
  await host.modules.modprobe('vfio_iommu_type1');
  await host.modules.modprobe('vfio_pci', { ids: '1234:11e8' });
  const root = new EmulatedRoot();
  for (let made = 0; made < functions; made += functionsOfDevice) {
    const port = rootPort();
    for (let fn = 0; fn < Math.min(functionsOfDevice, functions - made); fn++) {
      port.secondary.plug(fn, new Edu({ multifunction: true }));
    }
    root.segment.plug(firstPort + made, port);
  }
  assignFirmware(root);
  await bus.addRoot(root);
  const names = host.init.readdir('/sys/bus/pci/drivers/vfio-pci').map(({ name }) => name);
  return { host, names: names.filter((name) => name.includes(':')) };
}

/** Opens a function as every program does; its descriptor. */
export async function openFunction({ host }: PciLab, process: Process, name: string): Promise<number> {
  const group = host.init.readlink(`/sys/bus/pci/devices/${name}/iommu_group`).replace(/.*\//, '');
  const container = await process.open('/dev/vfio/vfio', O.RDWR);
  const fd = await process.open(`/dev/vfio/${group}`, O.RDWR);
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, container, process.byteOrder === 'little');
  await process.ioctl(fd, Request.GROUP_SET_CONTAINER, bytes);
  await process.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
  return await process.ioctl(fd, Request.GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${name}\0`));
}
