/*
 * The section `pci` of a machine file: what is in its slots, and who drives it.
 */
import type { JsonSchema } from '@vfio/core';
import { modelNames } from './models.js';
import { type ByteSize, byteSizeSchema } from './sizes.js';

/** What is in one slot, or what is known better of a function that a dump or a recording has. */
export interface FunctionSection {
  /** What it is, in words; for people. */
  readonly description?: string;
  /** A device that is emulated here. */
  readonly model?: string;
  /** Its config space: lines like `00: 86 80 d3 10 ...` of 16 bytes; lines that are not there are zeros. */
  readonly config?: string;
  /** Sizes of BARs by number. What is not said follows from capabilities and addresses. */
  readonly bars?: Readonly<Record<string, ByteSize>>;
  readonly rom?: ByteSize;
  /** Sizes of the BARs of each of its virtual functions. */
  readonly vfBars?: Readonly<Record<string, ByteSize>>;
  /** Bits that can be written, by the offset of a register of 32 bits, beside those that are known. */
  readonly writable?: Readonly<Record<string, number | string>>;
  /** Virtual functions that are enabled from the beginning; as many as were recorded by default. */
  readonly numVfs?: number;
  /** Number of the bus behind a bridge that is emulated here. */
  readonly secondary?: number;
  /** Of a port: cards can be taken out while the machine runs. */
  readonly slot?: boolean;
  /** Of a port: it keeps what is behind it apart. */
  readonly acs?: boolean;
  /** Of edu: width of the addresses that its DMA reaches. */
  readonly dmaBits?: number;
  /** Of an I/OAT engine: how much a descriptor may move, as a power of two. */
  readonly transferBits?: number;
}

/** A machine as a tool on it has recorded it. Paths are relative to the machine file. */
export interface RecordingSection {
  readonly functions: string;
  /** The same machine with virtual functions enabled. */
  readonly virtual?: string;
  /** What was read in BARs and ROMs. */
  readonly contents?: string;
}

/** The section of a machine file. */
export interface PciSection {
  /** A file with what `lspci -xxxx` printed; the path is relative to the machine file. */
  readonly lspci?: string;
  readonly recording?: RecordingSection;
  /** By address: more functions, or more about those of the dump. */
  readonly functions?: Readonly<Record<string, FunctionSection>>;
  /** Whether firmware describes slots, as ACPI does. Default: true. */
  readonly acpi?: boolean;
  /** Whether firmware leaves the slots of ports to the kernel. Default: true. */
  readonly nativeHotplug?: boolean;
  /** Which functions a driver is given, by its name, once all modules are loaded; `all`: whatever it takes. */
  readonly bind?: Readonly<Record<string, 'all' | readonly string[]>>;
}

const address = '^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$';
const addressTitle = "an address such as '0000:01:00.0'";

const bars: JsonSchema = {
  type: 'object',
  additionalProperties: false,
  patternProperties: { '^[0-5]$': byteSizeSchema },
};

const functionSchema: JsonSchema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    description: { type: 'string' },
    model: { enum: modelNames, description: 'a device that is emulated' },
    config: { type: 'string', description: "its config space, in lines such as '00: 86 80 d3 10 ...'" },
    bars: { ...bars, description: 'sizes of BARs by number' },
    rom: byteSizeSchema,
    vfBars: { ...bars, description: 'sizes of the BARs of each virtual function' },
    writable: {
      type: 'object',
      additionalProperties: false,
      patternProperties: {
        '^0x[0-9a-f]{1,3}$': {
          title: "bits of 32, as a number or as '0xffff0000'",
          type: ['integer', 'string'],
          minimum: 0,
          maximum: 0xffff_ffff,
          pattern: '^0x[0-9a-f]{1,8}$',
        },
      },
      description: 'bits that can be written beside those that are known, by offset of the register',
    },
    numVfs: { type: 'integer', minimum: 0, maximum: 0xffff, description: 'virtual functions that are enabled' },
    secondary: { type: 'integer', minimum: 1, maximum: 255, description: 'number of the bus behind a bridge' },
    slot: { type: 'boolean', description: 'of a port: cards can be taken out; true for those that have slots' },
    acs: { type: 'boolean', description: 'of a port: it keeps what is behind it apart; true' },
    dmaBits: { type: 'integer', minimum: 12, maximum: 64, description: 'of edu: width of addresses; 28' },
    transferBits: { type: 'integer', minimum: 6, maximum: 31, description: 'of ioat: bytes of a descriptor; 20' },
  },
};

/** JSON Schema of the section. */
export const pciSchema: JsonSchema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    lspci: { type: 'string', minLength: 1, description: 'file with what lspci -xxxx printed on a real machine' },
    recording: {
      type: 'object',
      additionalProperties: false,
      required: ['functions'],
      properties: {
        functions: { type: 'string', minLength: 1, description: 'file with a line of JSON for each function' },
        virtual: { type: 'string', minLength: 1, description: 'the same while virtual functions were enabled' },
        contents: { type: 'string', minLength: 1, description: 'what was read in BARs and ROMs' },
      },
      description: 'a machine whose registers were recorded, and how they take writes',
    },
    functions: {
      title: `a map by ${addressTitle}`,
      type: 'object',
      additionalProperties: false,
      patternProperties: { [address]: functionSchema },
      description: 'functions by address, or what is known better of those in the dump',
    },
    acpi: { type: 'boolean', description: 'firmware describes the slots; true' },
    nativeHotplug: { type: 'boolean', description: 'firmware leaves the slots of ports to the kernel; true' },
    bind: {
      type: 'object',
      additionalProperties: {
        title: `'all', or a list of addresses such as '0000:01:00.0'`,
        type: ['array', 'string'],
        pattern: '^all$',
        items: { type: 'string', title: addressTitle, pattern: address },
      },
      description: 'what a driver is given, by its name',
    },
  },
};
