/* What VFIO promises of every device, held against functions of several kinds. */
import { DeviceInfoFlag, PciIrqIndex, PciRegionIndex } from '@vfio/core';
import { VirtualClock } from '@vfio/host';
import { Machine } from '@vfio/machine';
import { testDriver } from '@vfio/testing';
import { describe, it } from 'vitest';
import { driverPackage, type PciSection } from '../src/machine.js';

const recordings = new URL('../../../transcripts/hardware/', import.meta.url).pathname;
const recording = { functions: `${recordings}q35-pci.jsonl`, contents: `${recordings}q35-pci-contents.jsonl` };

const emulated: PciSection = {
  functions: {
    '0000:00:03.0': { model: 'edu' },
    '0000:00:1c.0': { model: 'root-port', secondary: 1 },
    '0000:01:00.0': { model: 'ioat' },
  },
};
const { BAR0, BAR1, BAR2, BAR3, ROM, CONFIG } = PciRegionIndex;
const { INTX, MSI, MSIX, ERR, REQ } = PciIrqIndex;

for (const { name, section, address, ...facts } of [
  {
    name: 'edu',
    section: emulated,
    address: '0000:00:03.0',
    flags: DeviceInfoFlag.PCI,
    regionSizes: { [BAR0]: 0x10_0000, [CONFIG]: 256 },
    irqCounts: { [INTX]: 1, [MSI]: 1, [REQ]: 1 },
  },
  {
    name: 'I/OAT behind a port',
    section: emulated,
    address: '0000:01:00.0',
    flags: DeviceInfoFlag.PCI | DeviceInfoFlag.RESET,
    regionSizes: { [BAR0]: 0x4000, [CONFIG]: 4096 },
    irqCounts: { [INTX]: 1, [MSIX]: 1, [ERR]: 1, [REQ]: 1 },
  },
  {
    name: 'e1000e, recorded',
    section: { recording },
    address: '0000:01:00.0',
    flags: DeviceInfoFlag.PCI | DeviceInfoFlag.RESET,
    regionSizes: { [BAR0]: 0x2_0000, [BAR1]: 0x2_0000, [BAR2]: 32, [BAR3]: 0x4000, [ROM]: 0x4_0000, [CONFIG]: 4096 },
    irqCounts: { [INTX]: 1, [MSI]: 1, [MSIX]: 5, [ERR]: 1, [REQ]: 1 },
  },
]) {
  testDriver({
    name,
    runner: { describe, it },
    async create() {
      const machine = await Machine.load(
        {
          version: 1,
          vfio: { iommufd: true, deviceCdev: true },
          modules: ['vfio_iommu_type1', 'vfio-pci'],
          pci: { ...section, bind: { 'vfio-pci': [address] } },
        },
        { drivers: [driverPackage], checked: true, clock: new VirtualClock() },
      );
      const unbind = () => machine.host.init.writeFile('/sys/bus/pci/drivers/vfio-pci/unbind', address);
      return { machine, address, unbind };
    },
    regions: 9,
    irqs: 5,
    cdev: true,
    ...facts,
  });
}
