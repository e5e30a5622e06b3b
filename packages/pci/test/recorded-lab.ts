/*
 * The machine of the transcripts: functions as they were recorded, below an IOMMU like that one's, with the modules that a script
 * asks for.
 */
import { readFileSync } from 'node:fs';
import { Vfio } from '@vfio/core';
import { Host, VirtualClock } from '@vfio/host';
import type { ReplayMachine, ScriptHeader } from '@vfio/testing';
import { type PciBusType, pciInit } from '../src/bus/bus-type.js';
import { defineVfioPci } from '../src/driver.js';
import type { AssembledMachine } from '../src/hardware/assemble.js';
import { recordedMachine } from '../src/hardware/recorded.js';
import { parseContents, parseRecording } from '../src/hardware/recording.js';
import { defineStubDrivers } from '../src/stub-drivers.js';
import { vtd } from './bus/machine.js';

const recordings = new URL('../../../transcripts/hardware/', import.meta.url);
const recorded = (name: string) => readFileSync(new URL(name, recordings), 'utf8');
/** What the recording kernel gave to the first driver that asked after its built-in ones. */
const FIRST_DYNAMIC_MAJOR = 244;
/** Modules of other packages, which no script here uses. */
const OTHERS = ['mtty'];

/** A recorded machine that runs. */
export interface RecordedLab extends ReplayMachine {
  readonly host: Host;
  readonly vfio: Vfio;
  readonly bus: PciBusType;
  readonly machine: AssembledMachine;
  readonly clock: VirtualClock;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes the machine that a script asks for: `pci`, or `noremap` for one whose interrupts are not remapped. Of its modules, those
 * that are not of this package or below are left out.
 *
 * @param header - what the script says; one that names `iommufd` gets a kernel with that, and with device nodes
 */
export async function recordedLab({ machine: name, modules }: ScriptHeader): Promise<RecordedLab> {
  const machine = recordedMachine(parseRecording(recorded('q35-pci.jsonl')), {
    virtual: parseRecording(recorded('q35-pci-sriov.jsonl')),
    contents: parseContents(recorded('q35-pci-contents.jsonl')),
    // Its firmware kept the slots of its ports, as what their control registers have shows.
    root: { acpi: true, nativeHotplug: false },
  });
  const clock = new VirtualClock();
  // It can not make devices snoop that do not, and its driver knows PASIDs, but it has none.
  const iommu = { ...vtd, name: 'dmar0', maxPasids: 0, enforceCoherency: false, msiIsolated: name !== 'noremap' };
  const host = new Host({ checked: true, clock, iommu, firstDynamicMajor: FIRST_DYNAMIC_MAJOR });
  // The helper for IOVA bitmaps comes with iommufd.
  const iommufd = modules.some((module) => module.name === 'iommufd');
  const vfio = new Vfio(host, { iommufd, deviceCdev: iommufd, iovaBitmap: iommufd, debugfs: false });
  defineVfioPci(vfio);
  defineStubDrivers(host);
  const bus = await pciInit(host);
  for (const root of machine.roots) await bus.addRoot(root);
  for (const { name: module, parameters } of modules) {
    if (!OTHERS.includes(module)) await host.modules.modprobe(module, parameters);
  }
  const process = host.spawn({ comm: 'vfioscript' });
  return { host, vfio, bus, machine, clock, process, [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() };
}
