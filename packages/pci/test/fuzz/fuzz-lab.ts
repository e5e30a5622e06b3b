/*
 * Machines for random programs: recorded ones and ones out of dumps, a function of them in the hands of a process, and what that
 * process has opened.
 */
import { readFileSync } from 'node:fs';
import {
  DeviceInfoFlag,
  DmaMapFlag,
  deviceBindIommufd,
  deviceFeature,
  deviceInfo,
  Extension,
  Feature,
  FeatureFlag,
  iommuType1DmaMap,
  irqInfo,
  PCI_NUM_IRQS,
  PCI_NUM_REGIONS,
  Request,
  regionInfo,
  regionStart,
  Vfio,
} from '@vfio/core';
import { Host, isSystemError, O, type Process, Prot, SegmentationFault, VirtualClock } from '@vfio/host';
import { type PciBusType, pciInit } from '../../src/bus/bus-type.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { defineVfioPci } from '../../src/driver.js';
import { parseLspci } from '../../src/hardware/lspci.js';
import { recordedMachine } from '../../src/hardware/recorded.js';
import { parseContents, parseRecording } from '../../src/hardware/recording.js';
import { defineStubDrivers } from '../../src/stub-drivers.js';
import { vtd } from '../bus/machine.js';
import { CONFIG } from '../core/core-lab.js';

const recordings = new URL('../../../../transcripts/hardware/', import.meta.url);
const fixtures = new URL('../fixtures/lspci/', import.meta.url);
const read = (base: URL, name: string) => readFileSync(new URL(name, base), 'utf8');

type Machine = ReturnType<typeof recordedMachine>;

const records = parseRecording(read(recordings, 'q35-pci.jsonl'));
const virtual = parseRecording(read(recordings, 'q35-pci-sriov.jsonl'));
const contents = parseContents(read(recordings, 'q35-pci-contents.jsonl'));

/** The recorded machine. */
export function recorded(): Machine {
  return recordedMachine(records, { virtual, contents });
}

/** Text of a dump. */
export function dumpText(name: string): string {
  return read(fixtures, `${name}.txt`);
}

/** The machine of a dump. */
export function dumped(name: string): Machine {
  return recordedMachine(parseLspci(dumpText(name)));
}

/** Which function of which machine a random program is about. */
export interface FuzzTarget {
  readonly machine: () => Machine;
  readonly name: string;
  /** Functions that the program has open beside it, or could have. */
  readonly beside?: readonly string[];
  /** What makes virtual functions before anything is bound. */
  readonly physical?: string;
  /** It opens nodes of devices and binds them to an iommufd, rather than groups in a container. */
  readonly cdev?: boolean;
}

/** What opens virtual functions. */
const TOKEN = '11111111-2222-3333-4444-555555555555';
/** Memory for DMA, from address 0 on. */
const DMA_BYTES = 0x1_0000;
const DRIVERS_PROBE = '/sys/bus/pci/drivers_probe';

/** A machine with one function that a program has. */
export class FuzzLab {
  readonly host: Host;
  readonly bus: PciBusType;
  readonly clock: VirtualClock;
  readonly process: Process;
  readonly pdev: PciDev;
  readonly target: FuzzTarget;
  /** What is open: descriptors of a container or an iommufd, of groups by id or of nodes, and of devices. */
  context = -1;
  fd = -1;
  readonly groups = new Map<number, number>();
  readonly nodes: number[] = [];
  readonly others = new Map<string, number>();
  memory: bigint | undefined;
  readonly mappings: { readonly at: bigint; readonly length: number }[] = [];

  private constructor(host: Host, bus: PciBusType, clock: VirtualClock, target: FuzzTarget, pdev: PciDev) {
    this.host = host;
    this.bus = bus;
    this.clock = clock;
    this.target = target;
    this.pdev = pdev;
    this.process = host.spawn({ comm: 'fuzz' });
  }

  static async create(target: FuzzTarget): Promise<FuzzLab> {
    const clock = new VirtualClock();
    const host = new Host({ checked: true, clock, iommu: vtd });
    const vfio = new Vfio(host, { iommufd: true, deviceCdev: true, container: !target.cdev });
    defineVfioPci(vfio);
    defineStubDrivers(host);
    const bus = await pciInit(host);
    for (const root of target.machine().roots) await bus.addRoot(root);
    if (!target.cdev) await host.modules.modprobe('vfio_iommu_type1');
    await host.modules.modprobe('vfio_pci', { disable_denylist: '1', enable_sriov: '1' });
    const { physical, name, beside = [] } = target;
    if (physical) await makeVfs(host, bus, physical);
    for (const each of [name, ...beside]) await bind(host.init, each);
    const pdev = find(bus, name);
    const lab = new FuzzLab(host, bus, clock, target, pdev);
    await lab.open();
    return lab;
  }

  /** Opens the device, and what it needs. */
  async open(): Promise<void> {
    const { process, target } = this;
    this.context = await process.open(target.cdev ? '/dev/iommu' : '/dev/vfio/vfio', O.RDWR);
    if (target.cdev) {
      this.fd = await this.#node(target.name);
      return;
    }
    const group = await this.#group(this.pdev);
    await process.ioctl(this.context, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    await this.#mapMemory();
    for (const beside of target.beside ?? []) await this.#group(find(this.bus, beside));
    this.fd = await process.ioctl(group, Request.GROUP_GET_DEVICE_FD, text(`${target.name}${this.#token}\0`));
  }

  /** Opens a function beside the first one. */
  async openBeside(index: number): Promise<void> {
    const { process, target } = this;
    const name = target.beside?.[index];
    if (name === undefined || this.others.has(name)) return;
    if (target.cdev) this.others.set(name, await this.#node(name));
    else {
      const group = await this.#group(find(this.bus, name));
      this.others.set(name, await process.ioctl(group, Request.GROUP_GET_DEVICE_FD, text(`${name}\0`)));
    }
  }

  get #token(): string {
    return this.target.physical ? ` vf_token=${TOKEN}` : '';
  }

  /** The node of a function, bound. */
  async #node(name: string): Promise<number> {
    const { process } = this;
    const [{ name: node } = { name: '' }] = process.readdir(`/sys/bus/pci/devices/${name}/vfio-dev`);
    const fd = await process.open(`/dev/vfio/devices/${node}`, O.RDWR);
    this.nodes.push(fd);
    const bind = deviceBindIommufd.encode({ argsz: deviceBindIommufd.size, iommufd: this.context }, 'little');
    await process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, bind);
    return fd;
  }

  /** Memory that the function may reach. */
  async #mapMemory(): Promise<void> {
    const { process } = this;
    this.memory ??= process.mm.mmap({ length: DMA_BYTES, prot: Prot.READ | Prot.WRITE });
    const map = { argsz: iommuType1DmaMap.size, flags: DmaMapFlag.READ | DmaMapFlag.WRITE, vaddr: this.memory };
    await process.ioctl(
      this.context,
      Request.IOMMU_MAP_DMA,
      iommuType1DmaMap.encode({ ...map, size: BigInt(DMA_BYTES) }, 'little'),
    );
  }

  /** The group of a function, in the container. */
  async #group({ iommuGroup }: PciDev): Promise<number> {
    const id = iommuGroup?.id ?? -1;
    const known = this.groups.get(id);
    if (known !== undefined) return known;
    const fd = await this.process.open(`/dev/vfio/${id}`, O.RDWR);
    this.groups.set(id, fd);
    await this.process.ioctl(fd, Request.GROUP_SET_CONTAINER, int32(this.context));
    return fd;
  }

  /** Closes everything; a mapping would keep the device open. */
  async close(): Promise<void> {
    for (const { at, length } of this.mappings.splice(0)) await this.process.munmap(at, length);
    const { fd, nodes, others, groups, context } = this;
    for (const each of new Set([fd, ...nodes.splice(0), ...others.values(), ...groups.values(), context])) {
      await this.process.close(each);
    }
    others.clear();
    groups.clear();
  }

  /** Resets the function, once nobody recovers from an error any more, who would have its lock. */
  async reset(): Promise<void> {
    await this.clock.advance(0);
    await this.process.ioctl(this.fd, Request.DEVICE_RESET);
  }

  /** Config space as the user sees it. */
  async config(): Promise<Uint8Array> {
    const bytes = new Uint8Array(this.pdev.cfgSize);
    await this.process.pread(this.fd, bytes, regionStart(CONFIG));
    return bytes;
  }

  async canReset(): Promise<boolean> {
    const bytes = deviceInfo.encode({ argsz: deviceInfo.size }, 'little');
    await this.process.ioctl(this.fd, Request.DEVICE_GET_INFO, bytes);
    return (deviceInfo.decode(bytes, 'little').flags & DeviceInfoFlag.RESET) !== 0;
  }

  /** Bytes of each region, 0 where there is none. */
  regionSizes(): Promise<number[]> {
    return each(PCI_NUM_REGIONS, async (index) => {
      const bytes = regionInfo.encode({ argsz: regionInfo.size, index }, 'little');
      await this.process.ioctl(this.fd, Request.DEVICE_GET_REGION_INFO, bytes);
      return Number(regionInfo.decode(bytes, 'little').size);
    });
  }

  /** Interrupts of each index. */
  irqCounts(): Promise<number[]> {
    return each(PCI_NUM_IRQS, async (index) => {
      const bytes = irqInfo.encode({ argsz: irqInfo.size, index }, 'little');
      await this.process.ioctl(this.fd, Request.DEVICE_GET_IRQ_INFO, bytes);
      return irqInfo.decode(bytes, 'little').count;
    });
  }
}

/** What is asked for each index; nothing where that is refused. */
async function each(count: number, ask: (index: number) => Promise<number>): Promise<number[]> {
  const answers: number[] = [];
  for (let index = 0; index < count; index++) {
    answers.push(
      await ask(index).catch((error) => {
        expected(error);
        return 0;
      }),
    );
  }
  return answers;
}

/** What a program may be told: an errno, or a signal for an access. */
export function expected(error: unknown): void {
  if (!isSystemError(error) && !(error instanceof SegmentationFault)) throw error;
}

/** Gives a function to vfio-pci. */
async function bind(root: Process, name: string): Promise<void> {
  await root.writeFile(`/sys/bus/pci/devices/${name}/driver_override`, 'vfio-pci');
  await root.writeFile(DRIVERS_PROBE, name);
}

/** Makes virtual functions; a process holds the physical one, and says what opens them. */
async function makeVfs(host: Host, bus: PciBusType, name: string): Promise<void> {
  const owner = host.spawn({ comm: 'owner' });
  await bind(owner, name);
  const container = await owner.open('/dev/vfio/vfio', O.RDWR);
  const group = await owner.open(`/dev/vfio/${find(bus, name).iommuGroup?.id}`, O.RDWR);
  await owner.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container));
  await owner.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
  const fd = await owner.ioctl(group, Request.GROUP_GET_DEVICE_FD, text(`${name}\0`));
  const argument = new Uint8Array(deviceFeature.size + 16);
  argument.set(
    deviceFeature.encode({ argsz: argument.length, flags: Feature.PCI_VF_TOKEN | FeatureFlag.SET }, 'little'),
  );
  argument.set(Buffer.from(TOKEN.replaceAll('-', ''), 'hex'), deviceFeature.size);
  await owner.ioctl(fd, Request.DEVICE_FEATURE, argument);
  await owner.writeFile(`/sys/bus/pci/devices/${name}/sriov_numvfs`, '2');
}

function find(bus: PciBusType, name: string): PciDev {
  const [domain = 0, number = 0, slot = 0, fn = 0] = name.split(/[:.]/).map((part) => Number.parseInt(part, 16));
  const pdev = bus.find(domain, number, (slot << 3) | fn);
  if (!pdev) throw new Error(`there is no ${name}`);
  return pdev;
}

export function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
