/* What VFIO promises of every device, held against each type of card; and what a VMM gets to see of them. */
import { DeviceInfoFlag, type ExerciseStep, MigrationFlag, PciIrqIndex, PciRegionIndex } from '@vfio/core';
import { VirtualClock } from '@vfio/host';
import { Machine } from '@vfio/machine';
import { testDriver } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { driverPackage } from '../src/machine.js';
import { UUID } from './lab.js';

function load(type: string): Promise<Machine> {
  const section = { [type.slice(0, type.indexOf('-'))]: { devices: [{ uuid: UUID, type }] } };
  return Machine.load(
    {
      version: 1,
      vfio: { iommufd: true, deviceCdev: true },
      modules: ['vfio_iommu_type1'],
      'mdev-samples': section,
    },
    { drivers: [driverPackage], checked: true, clock: new VirtualClock() },
  );
}

const ports = { [PciRegionIndex.BAR0]: 8, [PciRegionIndex.CONFIG]: 255 };

/** A port answers at any offset; config space reads as zeros behind its end. */
const beyond = 'the kernel looks at the offset of an access, never at the size of the region';

for (const [type, regionSizes, exceptions] of [
  [
    'mtty-1',
    ports,
    {
      'regions: what is absent or not readable can not be read':
        'BAR1 of a card with one port reaches its second socket',
      'regions: what is absent or not writable can not be written':
        'BAR1 of a card with one port reaches its second socket',
    },
  ],
  ['mtty-2', { ...ports, [PciRegionIndex.BAR1]: 8 }, {}],
] as const) {
  testDriver({
    name: type,
    runner: { describe, it },
    async create() {
      const machine = await load(type);
      const unbind = () => machine.host.init.writeFile(`/sys/bus/mdev/devices/${UUID}/remove`, '1');
      return { machine, address: UUID, unbind };
    },
    regions: 9,
    irqs: 5,
    flags: DeviceInfoFlag.PCI,
    regionSizes,
    irqCounts: { [PciIrqIndex.INTX]: 1, [PciIrqIndex.MSI]: 1 },
    migration: MigrationFlag.STOP_COPY | MigrationFlag.P2P | MigrationFlag.PRE_COPY,
    dmaLogging: true,
    cdev: true,
    reset: true, // which the flags do not tell
    exceptions: {
      ...exceptions,
      'regions: nothing is read past the end': beyond,
      'regions: nothing is written past the end': beyond,
    },
  });
}

/** What is no region has offset 0, where config space is. */
const configSpace = 'a region that is not there has the offset of config space';
/** Config space has 255 bytes, and an access of two or four may begin at its last. */
const lastByte = 'the kernel looks where an access begins, not where it ends';
/** SET_IRQS is refused before anybody looks at its argument. */
const noIrqs = 'a display refuses SET_IRQS without reading it';
const neighbour = 'the next region begins where this one ends';

for (const [type, regions, regionSizes, exceptions] of [
  ...(['vga', 'xga', 'hd'] as const).map((size, i) => {
    const sizes = { [PciRegionIndex.BAR0]: 0x20_0000 << i, [PciRegionIndex.CONFIG]: 255 };
    return [`mdpy-${size}`, 9, sizes, { 'regions: nothing is read past the end': lastByte }] as const;
  }),
  ...(['small', 'medium', 'large'] as const).map((size, i) => {
    const sizes = { [PciRegionIndex.BAR0]: 0x40_0000 << (2 * i), [PciRegionIndex.BAR2]: 4096, 9: 4096 };
    const past = {
      'regions: nothing is read past the end': lastByte,
      'regions: nothing is written past the end': neighbour,
    };
    return [`mbochs-${size}`, 10, { ...sizes, [PciRegionIndex.CONFIG]: 255 }, past] as const;
  }),
] as const) {
  testDriver({
    name: type,
    runner: { describe, it },
    async create() {
      const machine = await load(type);
      const unbind = () => machine.host.init.writeFile(`/sys/bus/mdev/devices/${UUID}/remove`, '1');
      return { machine, address: UUID, unbind };
    },
    regions,
    irqs: 5,
    flags: DeviceInfoFlag.PCI,
    regionSizes,
    cdev: true,
    reset: true, // which the flags do not tell
    exceptions: {
      ...exceptions,
      'requests: a null pointer is EFAULT': noIrqs,
      'requests: a struct that is cut off is EFAULT': noIrqs,
      'regions: what is absent or not readable can not be read': configSpace,
      'regions: what is absent or not writable can not be written': configSpace,
    },
  });
}

describe('a VMM', () => {
  it.each([
    ['mtty-1', 2, 263, 60],
    ['mtty-2', 3, 271, 96],
  ] as const)('finds all of %s', async (type, regions, bytes, image) => {
    await using machine = await load(type);
    const steps: ExerciseStep[] = [];
    for await (const step of machine.exercise(UUID)) steps.push(step);
    expect(steps.filter(({ ok }) => !ok)).toEqual([]);
    const detail = Object.fromEntries(steps.map((step) => [step.name, step.detail]));
    expect(detail).toMatchObject({
      info: 'pci; 9 regions, 5 interrupt indices',
      regions: `${regions} with ${bytes} bytes, 4348:3253`,
      'irq 0': '1 of 1 signalled, masked itself',
      'irq 1': '1 of 1 signalled',
      migration: `stop-copy, p2p, pre-copy; saved and loaded ${image} bytes, RUNNING`,
      reset: 'done',
      close: '0 users left',
    });
  });

  it.each([
    [
      'mdpy-vga',
      { plane: '640x480 in region 16, 19680 pixels drawn and seen', 'reset picture': '480 rows as after creation' },
    ],
    ['mdpy-hd', { plane: '1920x1080 in region 16, 130680 pixels drawn and seen' }],
    ['mbochs-small', { picture: '19680 pixels drawn and seen', plane: '640x480, a buffer of 1228800 bytes' }],
    ['mbochs-large', { mode: '640x480, 32 bits per pixel', off: 'nothing is shown' }],
  ] as const)('sees the picture of %s', async (type, expected) => {
    await using machine = await load(type);
    const steps: ExerciseStep[] = [];
    for await (const step of machine.exercise(UUID)) steps.push(step);
    expect(steps.filter(({ ok }) => !ok)).toEqual([]);
    expect(Object.fromEntries(steps.map(({ name, detail }) => [name, detail]))).toMatchObject({
      ...expected,
      migration: 'not supported',
      reset: 'done',
    });
    expect(steps.map(({ name }) => name)).toContain('iommufd plane');
  });
});
