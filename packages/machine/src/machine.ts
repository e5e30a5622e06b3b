// A machine: a host with VFIO, built from a machine file by the driver packages that are installed.

import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ProcessTransport, VfioClient } from '@vfio/client';
import { type DriverPackage, type ExerciseStep, type MachineContext, Vfio } from '@vfio/core';
import { type Clock, Host, type Leak, type Process, type Scheduler, type SpawnOptions } from '@vfio/host';
import { buildDevices, iommuOptions } from './chipset.js';
import { discoverDrivers } from './discover.js';
import { exerciseDevice } from './exercise.js';
import { type InventoryEntry, inventory } from './inventory.js';
import { type MachineSource, readMachine } from './read.js';
import { type MachineFile, type ModuleEntry, ownKeys } from './schema.js';
import { firstComplaint } from './validate.js';

/** How to make a machine beside what its file says. */
export interface LoadOptions {
  /** Driver packages to use instead of looking for installed ones. */
  readonly drivers?: readonly DriverPackage[];
  /** Directories to look for driver packages in, beside those of the file, the working directory and this package. */
  readonly searchFrom?: readonly string[];
  /** Modules to load instead of those that the file names. */
  readonly modules?: readonly ModuleEntry[];
  /** Build switches that override those of the file. */
  readonly vfio?: MachineFile['vfio'];
  /** Looks for misuse and leaks, as KASAN and lockdep do. Default: on in tests. */
  readonly checked?: boolean;
  /** Default: the time of day. */
  readonly clock?: Clock;
  /** Who runs next at each await; for explorers. */
  readonly scheduler?: Scheduler;
}

/**
 * A running machine.
 *
 * ```ts
 * await using machine = await Machine.load('lab.yaml');
 * await using device = await machine.client().openDevice('0000:01:00.0');
 * ```
 */
export class Machine implements AsyncDisposable {
  readonly name: string;
  readonly host: Host;
  readonly vfio: Vfio;
  /** The driver packages that it knows. */
  readonly drivers: readonly DriverPackage[];
  #clients: VfioClient | undefined;

  private constructor(name: string, host: Host, vfio: Vfio, drivers: readonly DriverPackage[]) {
    this.name = name;
    this.host = host;
    this.vfio = vfio;
    this.drivers = drivers;
  }

  /**
   * Brings a machine up.
   *
   * @param source - path of a machine file, or the object that stands for one
   * @throws MachineFileError - the file is wrong, or asks for a package that is not installed
   * @throws DriverPackageError - a package that it names is not there, or is no driver package
   */
  static async load(source: string | MachineFile, options: LoadOptions = {}): Promise<Machine> {
    const file = readMachine(source);
    const drivers = options.drivers ?? (await discoverDrivers(searchPath(file, options), file.data.drivers));
    const sections = sectionsOf(file, drivers);
    const { host: hostSection = {}, vfio: switches } = file.data;
    const host = new Host({
      ...(options.checked === undefined ? {} : { checked: options.checked }),
      ...(options.clock ? { clock: options.clock } : {}),
      ...(options.scheduler ? { scheduler: options.scheduler } : {}),
      ...(hostSection.byteOrder ? { byteOrder: hostSection.byteOrder } : {}),
      ...(hostSection.firstDynamicMajor ? { firstDynamicMajor: hostSection.firstDynamicMajor } : {}),
      ...iommuOptions(hostSection.iommu),
    });
    const vfio = new Vfio(host, { ...switches, ...options.vfio });
    const machine = new Machine(file.data.name ?? 'machine', host, vfio, drivers);
    const context: MachineContext = {
      name: machine.name,
      host,
      vfio,
      ...(file.directory === undefined ? {} : { directory: file.directory }),
    };
    try {
      await buildDevices(host, hostSection.devices ?? []);
      for (const driver of drivers) driver.define(context);
      for (const module of options.modules ?? file.data.modules ?? []) await machine.modprobe(module);
      for (const { driver, section } of sections) await driver.build(context, section);
    } catch (error) {
      await host.shutdown();
      throw error;
    }
    return machine;
  }

  /** Loads a module, as `modprobe name key=value` does. */
  async modprobe(module: ModuleEntry): Promise<void> {
    const { name, parameters = {} } = typeof module === 'string' ? { name: module } : module;
    const words = Object.entries(parameters).map(([key, value]): [string, string] => [key, parameterText(value)]);
    await this.host.modules.modprobe(name, Object.fromEntries(words));
  }

  /** A client in a process of its own, root's; the same at each call. */
  client(): VfioClient {
    this.#clients ??= new VfioClient(new ProcessTransport(this.process({ comm: 'client' })));
    return this.#clients;
  }

  /** A new process on the machine. */
  process(options: SpawnOptions = {}): Process {
    return this.host.spawn(options);
  }

  /** The devices that VFIO knows, or could know: those in an IOMMU group. */
  devices(): Promise<InventoryEntry[]> {
    return inventory(this.host, this.vfio);
  }

  /**
   * Drives a device through the client: open, information, regions, interrupts, DMA, migration, reset, close, and what its
   * driver package knows of it.
   *
   * @param address - address, UUID or vfioN
   */
  exercise(address: string): AsyncGenerator<ExerciseStep, void, undefined> {
    return exerciseDevice(this, address);
  }

  /** Stops the machine: processes exit, modules go. Returns what was left behind. */
  shutdown(): Promise<Leak[]> {
    return this.host.shutdown();
  }

  /** Stops the machine; one that looks for leaks throws if it finds any. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.host[Symbol.asyncDispose]();
  }
}

function parameterText(value: string | number | boolean): string {
  if (typeof value === 'boolean') return value ? 'Y' : 'N';
  return String(value);
}

function searchPath(file: MachineSource, options: LoadOptions): string[] {
  const own = dirname(fileURLToPath(import.meta.url));
  return [...(file.directory === undefined ? [] : [file.directory]), process.cwd(), ...(options.searchFrom ?? []), own];
}

interface DriverSection {
  readonly driver: DriverPackage;
  readonly section: unknown;
}

/** The sections in the order of the file, each with the package that takes it. */
function sectionsOf(file: MachineSource, drivers: readonly DriverPackage[]): DriverSection[] {
  const sections: DriverSection[] = [];
  for (const [key, section] of Object.entries(file.data)) {
    if (ownKeys.has(key)) continue;
    const driver = drivers.find((candidate) => candidate.section === key);
    if (!driver) {
      throw file.error({ path: [key], problem: `section '${key}' needs @vfio/${key}: npm install @vfio/${key}` });
    }
    const complaint = firstComplaint(driver.schema, section);
    if (complaint) throw file.error({ path: [key, ...complaint.path], problem: complaint.problem });
    sections.push({ driver, section });
  }
  return sections;
}
