// What a driver package tells the rest of the house about itself: the shape of its `./machine` export.
// The types stand here, below machine, client and command, so that no driver has to look up.

import type { Host, Process } from '@vfio/host';
import type { DeviceGfxPlaneInfo } from './uapi/vfio.js';
import type { Vfio } from './vfio.js';

const sectionErrorMark = Symbol.for('vfio.SectionError');

/** A JSON Schema (draft 2020-12), as plain data. */
export interface JsonSchema {
  readonly [keyword: string]: unknown;
}

/** What a driver package may use while a machine is made. */
export interface MachineContext {
  /** The name of the machine, from its file or the file's own name. */
  readonly name: string;
  readonly host: Host;
  readonly vfio: Vfio;
  /** Directory that relative paths in the machine file start from; absent when the machine came from an object. */
  readonly directory?: string;
}

/** One thing that was tried on a device, and what came of it. */
export interface ExerciseStep {
  /** `regions`, `migration`, `loop back`: a word or two for the report. */
  readonly name: string;
  readonly ok: boolean;
  /** What was seen, in a short phrase: `9 regions, 1 mapped`; for a failure what was expected instead. */
  readonly detail?: string;
}

/** Tries one thing; a failure is a step that tells of it. */
export async function exerciseStep(name: string, run: () => Promise<string>): Promise<ExerciseStep> {
  try {
    return { name, ok: true, detail: await run() };
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

/** A region in the memory of a process; each access is one access of its CPU. */
export interface ExerciseMapping {
  load(offset: number, size: 1 | 2 | 4 | 8): bigint;
  store(offset: number, size: 1 | 2 | 4 | 8, value: bigint): void;
  unmap(): void;
}

/** Memory of the client that the device reaches by DMA, until it is disposed of. */
export interface ExerciseMemory extends AsyncDisposable {
  readonly iova: bigint;
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

/**
 * The part of a client's device that a driver package needs to exercise it. `@vfio/client`'s `Device` is one;
 * quantities are bytes, positions are relative to the region.
 */
export interface ExerciseDevice {
  readonly name: string;
  readRegion(index: number, offset: number, length: number): Promise<Uint8Array>;
  writeRegion(index: number, offset: number, bytes: Uint8Array): Promise<number>;
  /** Maps a region, from its first byte on. */
  mapRegion(index: number, length: number): Promise<ExerciseMapping>;
  /**
   * Maps new memory for DMA, where nothing is mapped yet.
   *
   * @param length - bytes, whole pages
   * @param limit - the first address that the device can not reach; 2^32 by default
   */
  mapMemory(length: number, limit?: bigint): Promise<ExerciseMemory>;
  /** Connects eventfds to an interrupt index, one for each vector; an empty list disconnects. */
  setTriggers(index: number, eventfds: readonly (number | undefined)[]): Promise<void>;
  unmask(index: number): Promise<void>;
  mask(index: number): Promise<void>;
  reset(): Promise<void>;
  /** Asks about a plane of the display; `flags` are GfxPlaneType bits. */
  queryGfxPlane(flags: number, drmPlaneType: number): Promise<DeviceGfxPlaneInfo>;
  /** A descriptor of the buffer that a plane shows. */
  getGfxDmabuf(dmabufId: number): Promise<number>;
}

/** An open device with the process that holds it. */
export interface ExerciseTarget {
  /** Address or UUID of the parent device. */
  readonly address: string;
  readonly process: Process;
  readonly device: ExerciseDevice;
}

/**
 * A section that its schema accepts and that makes no sense all the same. Whoever has read the file adds where that stands:
 * `lab.yaml:12:9: pci.functions.0000:01:00.0.model: ...`.
 */
export class SectionError extends Error {
  override readonly name: string = 'SectionError';
  /** Keys and indices that lead to it, from the section on. */
  readonly path: readonly (string | number)[];

  /** @param problem - what is wrong, and what would be right, in one line */
  constructor(path: readonly (string | number)[], problem: string, options?: ErrorOptions) {
    super(problem, options);
    this.path = path;
  }

  /** The mark that `isSectionError` looks for. */
  get [sectionErrorMark](): true {
    return true;
  }
}

/** Tells whether something caught is a `SectionError`, from whichever copy of this package. */
export function isSectionError(error: unknown): error is SectionError {
  return error instanceof Error && sectionErrorMark in error;
}

/** What a package made of a description of a real machine. */
export interface ImportedMachine<Section = unknown> {
  readonly section: Section;
  /** Modules that make its devices VFIO's, in the order in which they are to be loaded. */
  readonly modules: readonly string[];
}

/** A machine for one device, for whoever wants to try that device and has no machine. */
export interface SampleMachine {
  /** What it is, in a phrase. */
  readonly summary: string;
  /** Its machine file, without version and name. */
  readonly file: Readonly<Record<string, unknown>>;
  /** The device on it: its name on its bus. */
  readonly address: string;
}

/**
 * What `@vfio/<driver>/machine` exports as `driverPackage`.
 *
 * @typeParam Section - the section of a machine file, after the schema has accepted it
 * @typeParam Hardware - what `powerOn` has made; undefined for a package without it
 */
export interface DriverPackage<Section = unknown, Hardware = unknown> {
  /** Name on the registry: `@vfio/mdev-samples`. */
  readonly package: string;
  /** Its key in a machine file: `mdev-samples`. */
  readonly section: string;
  readonly schema: JsonSchema;
  /** Kernel modules that it brings: what `modprobe` and the `modules` line of a script may name. */
  readonly modules: readonly string[];
  /** Machines to try its devices on, by the word that people have for the device: `mtty`. */
  readonly samples?: Readonly<Record<string, SampleMachine>>;
  /** Makes the modules known to the host; nothing is loaded and nothing becomes visible. */
  define(machine: MachineContext): void;
  /**
   * Makes hardware that is there before anybody loads a module. Undone by the host's shutdown.
   *
   * @returns what `build` has to know of it
   * @throws SectionError - it can not be made as the section says
   */
  powerOn?(machine: MachineContext, section: Section): Promise<Hardware>;
  /**
   * Makes what the section describes once the modules of the machine file are loaded: loads others, creates and binds devices.
   * Undone by the host's shutdown.
   *
   * @throws SectionError - as `powerOn`
   */
  build(machine: MachineContext, section: Section, hardware: Hardware): Promise<void>;
  /**
   * Makes the section out of what a tool printed on a real machine (`lspci -xxxx`); undefined when the text is nothing that
   * this package knows.
   *
   * @throws SyntaxError - it is, and does not make sense; the message begins with the line: `line 12: ...`
   */
  importDump?(text: string): ImportedMachine<Section> | undefined;
  /** Tries what is particular to a device of this package; undefined for a device that is not. */
  exercise?(target: ExerciseTarget): AsyncIterable<ExerciseStep> | undefined;
}
