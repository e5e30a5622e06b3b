// A machine: a host with VFIO, built from a machine file by the driver packages that are installed.

import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ProcessTransport, VfioClient } from '@vfio/client';
import { type DriverPackage, type ExerciseStep, isSectionError, type MachineContext, Vfio } from '@vfio/core';
import {
  type Clock,
  Host,
  isSystemError,
  type Leak,
  type Process,
  type Scheduler,
  type SpawnOptions,
} from '@vfio/host';
import { buildDevices, iommuOptions } from './chipset.js';
import { discoverDrivers } from './discover.js';
import { exerciseDevice } from './exercise.js';
import { type InventoryEntry, inventory } from './inventory.js';
import { type MachineSource, readMachine } from './read.js';
import { type MachineFile, type ModuleEntry, ownKeys } from './schema.js';
import { closest } from './suggest.js';
import { firstComplaint } from './validate.js';

/** How to make a machine beside what its file says. */
export interface LoadOptions {
  /** Driver packages to use instead of looking for installed ones. */
  readonly drivers?: readonly DriverPackage[];
  /** Directories to look for driver packages in, beside those of the file, the working directory and this package. */
  readonly searchFrom?: readonly string[];
  /** Modules to load instead of those that the file names; only these, and what they can not do without. */
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
   * @throws MachineFileError - the file is wrong, or asks for a package or a module that is not installed
   * @throws DriverPackageError - a package that it names is not there, or is no driver package
   * @throws SystemError - a module can not be loaded or a device not be made; nothing is left of the machine then
   * @throws AggregateError - that, and something was left all the same; in checked mode only
   */
  static async load(source: string | MachineFile, options: LoadOptions = {}): Promise<Machine> {
    const file = readMachine(source);
    const drivers = options.drivers ?? (await discoverDrivers(searchPath(file, options), file.data.drivers));
    const sections = sectionsOf(file, drivers);
    const host = createHost(file.data, options);
    try {
      const vfio = new Vfio(host, { ...file.data.vfio, ...options.vfio });
      const machine = new Machine(file.data.name ?? 'machine', host, vfio, drivers);
      await machine.#build(file, sections, options.modules);
      return machine;
    } catch (error) {
      return await takeDown(host, error);
    }
  }

  async #build(
    file: MachineSource,
    sections: readonly DriverSection[],
    modules: readonly ModuleEntry[] | undefined,
  ): Promise<void> {
    const { name, host, vfio } = this;
    const { directory } = file;
    const context: MachineContext = { name, host, vfio, ...(directory === undefined ? {} : { directory }) };
    for (const driver of this.drivers) driver.define(context);
    await buildDevices(host, file.data.host?.devices ?? []);
    const hardware = new Map<DriverPackage, unknown>();
    for (const { driver, section } of sections) {
      hardware.set(driver, await placed(file, driver, driver.powerOn?.(context, section)));
    }
    if (modules) for (const module of modules) await insmod(host, module);
    else await loadModules(this, file);
    for (const { driver, section } of sections) {
      await placed(file, driver, driver.build(context, section, hardware.get(driver)));
    }
    if (!modules) await host.modules.loadSoftDependencies();
  }

  /** Loads a module, as `modprobe name key=value` does: with what it needs, and what it would like to have. */
  async modprobe(module: ModuleEntry): Promise<void> {
    await insmod(this.host, module);
    await this.host.modules.loadSoftDependencies();
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

function createHost({ host: section = {} }: MachineFile, options: LoadOptions): Host {
  const { checked, clock, scheduler } = options;
  const { byteOrder, firstDynamicMajor, iommu } = section;
  return new Host({
    ...(checked === undefined ? {} : { checked }),
    ...(clock ? { clock } : {}),
    ...(scheduler ? { scheduler } : {}),
    ...(byteOrder ? { byteOrder } : {}),
    ...(firstDynamicMajor ? { firstDynamicMajor } : {}),
    ...iommuOptions(iommu),
  });
}

/**
 * Ends a machine that did not come up.
 *
 * @throws error - what went wrong
 * @throws AggregateError - and what it left behind, or why it could not be ended
 */
async function takeDown(host: Host, error: unknown): Promise<never> {
  try {
    await host[Symbol.asyncDispose]();
  } catch (left) {
    const [why, also] = [error, left].map((one) => (one instanceof Error ? one.message : String(one)));
    throw new AggregateError([error, left], `${why}; and then: ${also}`);
  }
  throw error;
}

/** What is wrong with a section is told of with its place in the file. */
async function placed<T>(file: MachineSource, driver: DriverPackage, building: T): Promise<Awaited<T>> {
  try {
    return await building;
  } catch (error) {
    if (!isSectionError(error)) throw error;
    throw file.error({ path: [driver.section, ...error.path], problem: error.message }, error);
  }
}

/** Loads a module with what it needs. */
async function insmod({ modules }: Host, module: ModuleEntry): Promise<void> {
  const { name, parameters = {} } = typeof module === 'string' ? { name: module } : module;
  const words = Object.entries(parameters).map(([key, value]): [string, string] => [key, parameterText(value)]);
  await modules.modprobe(name, Object.fromEntries(words));
}

/** Loads modules of the file; one that nobody brings is told of with its place. */
async function loadModules(machine: Machine, file: MachineSource): Promise<void> {
  for (const [i, module] of (file.data.modules ?? []).entries()) {
    try {
      await insmod(machine.host, module);
    } catch (error) {
      const name = (typeof module === 'string' ? module : module.name).replaceAll('-', '_');
      const known = machine.host.modules.known();
      if (!isSystemError(error, 'ENOENT') || known.includes(name)) throw error;
      const meant = closest(name, known);
      const fix = meant === undefined ? 'install the driver package that brings it' : `did you mean '${meant}'?`;
      throw file.error({ path: ['modules', i], problem: `there is no module '${name}': ${fix}` });
    }
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
    if (!driver) throw file.error({ path: [key], problem: unknownSection(key, drivers) });
    const complaint = firstComplaint(driver.schema, section);
    if (complaint) throw file.error({ path: [key, ...complaint.path], problem: complaint.problem });
    sections.push({ driver, section });
  }
  return sections;
}

/** Packages are named after their sections; a name that could be none is not looked for. */
const packageName = /^[a-z0-9][a-z0-9._-]*$/;

function unknownSection(key: string, drivers: readonly DriverPackage[]): string {
  const known = [...ownKeys, ...drivers.map(({ section }) => section)];
  const meant = closest(key, known);
  if (meant !== undefined) return `there is no section '${key}': did you mean '${meant}'?`;
  if (packageName.test(key)) return `section '${key}' needs @vfio/${key}: npm install @vfio/${key}`;
  return `there is no section '${key}': use one of ${known.join(', ')}`;
}
