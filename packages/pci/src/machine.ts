/**
 * PCI in a machine file:
 *
 *     modules: [vfio-pci]
 *     pci:
 *       lspci: server.txt              # a whole machine, as lspci -xxxx printed it
 *       functions:
 *         0000:01:00.0: { bars: { 0: 16M } }
 *         0000:02:00.0: { model: edu }
 *       bind:
 *         vfio-pci: [0000:01:00.0, 0000:02:00.0]
 */
import type { DriverPackage, SampleMachine } from '@vfio/core';
import { pciInit } from './bus/bus-type.js';
import { defineVfioPci } from './driver.js';
import { placeOpRegion } from './hardware/opregion.js';
import { bindSection } from './machine/bind.js';
import { exercisePci } from './machine/exercise.js';
import { type SectionHardware, sectionHardware } from './machine/hardware.js';
import { importLspci } from './machine/import.js';
import { type PciSection, pciSchema } from './machine/section.js';
import { defineStubDrivers } from './stub-drivers.js';

export type { FunctionSection, PciSection, RecordingSection } from './machine/section.js';
export type { ByteSize } from './machine/sizes.js';

/** A machine with one function, which is vfio-pci's. */
function sampleMachine(model: string, summary: string): SampleMachine {
  const address = '0000:00:03.0';
  return {
    summary,
    file: {
      modules: ['vfio_iommu_type1', 'vfio-pci'],
      pci: { functions: { [address]: { model } }, bind: { 'vfio-pci': [address] } },
    },
    address,
  };
}

/** What a machine and the command line need to know of this package. */
export const driverPackage: DriverPackage<PciSection, SectionHardware> = {
  package: '@vfio/pci',
  section: 'pci',
  schema: pciSchema,
  modules: ['vfio_pci', 'vfio_pci_core', 'pci_stub', 'pci_pf_stub', 'uio_pci_generic'],

  samples: {
    edu: sampleMachine('edu', "QEMU's educational device: DMA, INTx, MSI"),
    ioat: sampleMachine('ioat', 'an I/OAT engine that copies memory'),
  },

  define({ vfio, host }) {
    defineVfioPci(vfio);
    defineStubDrivers(host);
  },

  async powerOn(machine, section) {
    const hardware = await sectionHardware(machine, section);
    const bus = await pciInit(machine.host);
    for (const fn of hardware.functions.values()) placeOpRegion(machine.host, fn);
    for (const root of hardware.roots) await bus.addRoot(root);
    return hardware;
  },

  async build(machine, section, { numVfs }) {
    await bindSection(machine, section, numVfs);
  },

  importDump: importLspci,
  exercise: exercisePci,
};
