/* What VFIO promises of every device, held against each type of card; and what a VMM gets to see of them. */
import { DeviceInfoFlag, type ExerciseStep, MigrationFlag, PciIrqIndex, PciRegionIndex } from '@vfio/core';
import { VirtualClock } from '@vfio/host';
import { Machine } from '@vfio/machine';
import { testDriver } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { driverPackage } from '../src/machine.js';
import { type CardType, UUID } from './lab.js';

function load(type: CardType): Promise<Machine> {
  const section = { mtty: { devices: [{ uuid: UUID, type }] } };
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
});
