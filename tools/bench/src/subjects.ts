// What is measured: the paths that a VMM or a device plugin takes often.

import { ProcessTransport, VfioClient } from '@vfio/client';
import { deviceBindIommufd, deviceInfo, PciRegionIndex, Request } from '@vfio/core';
import { O, userBuffer } from '@vfio/host';
import { Machine } from '@vfio/machine';
import { driverPackage } from '@vfio/mdev-samples/machine';
import type { FloorName } from './floors.js';
import { createLab } from './lab.js';
import { mapper } from './mapper.js';
import type { Work } from './measure.js';
import { dirtyScan, dmaCopy } from './memory.js';
import { pciMachine, pciRegisters } from './pci-subjects.js';
import type { Target } from './target.js';

/** A path and what to hold it against. */
export interface Subject {
  readonly name: string;
  readonly floor: FloorName;
  /** In unchecked mode; absent where none is asked for. */
  readonly target?: Target;
  readonly work: Work;
}

/** Subjects that share a machine. */
export interface Bench extends AsyncDisposable {
  readonly subjects: readonly Subject[];
}

const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
/** Config space of the card: its interrupt line, a register without effects. */
const registerAt = 0x3c;

/** Registers and requests of mtty, through the file object and through a process. */
async function mtty(checked: boolean): Promise<Bench> {
  const machine = await Machine.load(
    { version: 1, 'mdev-samples': { mtty: { devices: [{ uuid, type: 'mtty-1' }] } } },
    { drivers: [driverPackage], modules: ['vfio_iommu_type1'], checked },
  );
  const process = machine.process({ comm: 'bench' });
  const device = await new VfioClient(new ProcessTransport(process)).openDevice(uuid);
  const region = await device.region(PciRegionIndex.CONFIG);
  const { fd } = device;
  const at = Number(region.offset) + registerAt;
  const file = process.files.get(fd);
  const bytes = new Uint8Array(4);
  const buffer = userBuffer(bytes, process);
  const info = deviceInfo.encode({ argsz: deviceInfo.size }, process.byteOrder);
  return {
    subjects: [
      {
        name: 'mtty register, File.read 4 B',
        floor: 'Buffer.copy 4 B',
        target: { perSecond: 5e6 },
        work: (count) => {
          for (let i = 0; i < count; i++) atOnce(file.read?.(buffer, at));
        },
      },
      {
        name: 'mtty register, File.write 4 B',
        floor: 'Buffer.copy 4 B',
        target: { perSecond: 5e6 },
        work: (count) => {
          for (let i = 0; i < count; i++) atOnce(file.write?.(buffer, at));
        },
      },
      {
        name: 'mtty register, Process.pread 4 B',
        floor: 'Buffer.copy 4 B',
        work: (count) => {
          for (let i = 0; i < count; i++) atOnce(process.pread(fd, bytes, at));
        },
      },
      {
        name: 'mtty register, Process.pwrite 4 B',
        floor: 'Buffer.copy 4 B',
        work: (count) => {
          for (let i = 0; i < count; i++) atOnce(process.pwrite(fd, bytes, at));
        },
      },
      {
        name: 'mtty register, Region.read 4 B',
        floor: 'empty async call',
        work: async (count) => {
          for (let i = 0; i < count; i++) await region.read(registerAt, 4);
        },
      },
      {
        name: 'ioctl VFIO_DEVICE_GET_INFO',
        floor: 'empty async call',
        work: async (count) => {
          for (let i = 0; i < count; i++) await process.ioctl(fd, Request.DEVICE_GET_INFO, info);
        },
      },
    ],
    [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
  };
}

/** The data path answers at once, or the figure is about something else. */
function atOnce(result: number | Promise<number> | undefined): void {
  if (typeof result !== 'number') throw new Error('a register answered later');
}

/** The whole life of a device, opened through its own node by a program that has an iommufd, as VMMs do today. */
async function life(checked: boolean): Promise<Bench> {
  const lab = await createLab({ checked, behind: 'iommufd' });
  const { process } = lab;
  const iommufd = await process.open('/dev/iommu', O.RDWR);
  const bind = deviceBindIommufd.encode({ argsz: deviceBindIommufd.size, iommufd }, process.byteOrder);
  return {
    subjects: [
      {
        name: 'device: alloc, register, open, close, unregister, put',
        floor: 'empty async call',
        target: { perSecond: 20_000 },
        work: async (count) => {
          for (let i = 0; i < count; i++) {
            const device = await lab.register();
            const fd = await process.open(`/dev/vfio/devices/${device.name}`, O.RDWR);
            await process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, bind);
            await process.close(fd);
            await lab.unregister(device);
          }
        },
      },
    ],
    [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose](),
  };
}

/** The same with a container and a group of its own each time. */
async function lifeInGroup(checked: boolean): Promise<Bench> {
  const lab = await createLab({ checked });
  return {
    subjects: [
      {
        name: 'the same, through a new container and its group',
        floor: 'empty async call',
        work: async (count) => {
          for (let i = 0; i < count; i++) {
            const device = await lab.register();
            await lab.close(await lab.open());
            await lab.unregister(device);
          }
        },
      },
    ],
    [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose](),
  };
}

/** Mappings to keep while one more comes and goes: a VMM has some. */
const otherMappings = 64;
const sizes = [
  { name: '4 KiB', bytes: 4096 },
  { name: '2 MiB', bytes: 2 << 20 },
] as const;

/** Mapping memory for DMA and unmapping it again, in a container with a real domain. */
async function type1(checked: boolean): Promise<Bench> {
  const lab = await createLab({ checked });
  const device = await lab.register();
  const path = await lab.open();
  for (let i = 1; i <= otherMappings; i++) await mapper(lab, path.container, 4096, BigInt(i) << 32n).map();
  return {
    subjects: sizes.map(({ name, bytes }) => {
      const { map, unmap } = mapper(lab, path.container, bytes, 0x1000_0000n);
      return {
        name: `type1: map and unmap ${name}`,
        floor: 'empty async call',
        work: async (count) => {
          for (let i = 0; i < count; i++) {
            await map();
            await unmap();
          }
        },
      };
    }),
    async [Symbol.asyncDispose]() {
      await lab.close(path);
      await lab.unregister(device);
      await lab[Symbol.asyncDispose]();
    },
  };
}

/** Makes the machines, one after the other, with what is to be measured on each. */
export const benches: readonly ((checked: boolean) => Promise<Bench>)[] = [
  mtty,
  life,
  lifeInGroup,
  type1,
  dmaCopy,
  dirtyScan,
  pciRegisters,
  pciMachine,
];
