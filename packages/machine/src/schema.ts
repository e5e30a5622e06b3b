// The part of a machine file that belongs to no driver. The sections of drivers are checked with the schemas that their
// packages bring.

import type { JsonSchema } from '@vfio/core';

/** Version of the format; a file names it. */
export const machineFileVersion = 1;

/** A number below 2^64. YAML has no integers beyond 2^53 that arrive as they were written, so these are strings. */
const address = {
  title: 'a whole number, or from 2^53 on a string such as "0xffffffffffffffff"',
  type: ['integer', 'string'],
  minimum: 0,
  maximum: Number.MAX_SAFE_INTEGER,
  pattern: '^(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,19})$',
};

/** JSON Schema (draft 2020-12) of a machine file, without the sections of drivers. */
export const machineSchema: JsonSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  $id: 'https://unpkg.com/@vfio/machine/schema/machine-v1.schema.json',
  title: 'a VFIO machine',
  description:
    'A machine with VFIO on it: what host it is, which modules are loaded, and one section for each driver package.',
  type: 'object',
  required: ['version'],
  properties: {
    $schema: { type: 'string', description: 'where editors find this schema' },
    version: { const: machineFileVersion, description: 'version of this format' },
    name: { type: 'string', minLength: 1, description: 'name of the machine; the name of the file otherwise' },
    drivers: {
      type: 'array',
      items: { type: 'string', minLength: 1 },
      description: 'driver packages beside the installed @vfio ones, as npm names them',
    },
    host: {
      type: 'object',
      additionalProperties: false,
      properties: {
        byteOrder: { enum: ['little', 'big'], description: 'byte order of its processes; little' },
        firstDynamicMajor: {
          type: 'integer',
          minimum: 1,
          maximum: 254,
          description: 'the first major number that a driver without one of its own gets; numbers go down from there',
        },
        iommu: {
          title: "'none', or a map of what it is like",
          description: 'the IOMMU; one with 48 address bits and an MSI window unless said otherwise',
          type: ['object', 'string'],
          pattern: '^none$',
          $ref: '#/$defs/iommu',
        },
        devices: {
          type: 'array',
          description: 'devices that are there and that no driver package models: the chipset',
          items: {
            type: 'object',
            additionalProperties: false,
            required: ['path'],
            properties: {
              path: {
                type: 'string',
                title: 'a path, without a slash at either end',
                pattern: '^[^/]+(/[^/]+)*$',
                description: 'below /sys/devices: pci0000:00/0000:00:1f.0; what is missing on the way is made',
              },
              iommuGroup: {
                type: 'string',
                minLength: 1,
                description: 'devices with the same word here share a group, numbered in this order',
              },
            },
          },
        },
      },
    },
    vfio: {
      type: 'object',
      additionalProperties: false,
      description: 'what the kernel was built with',
      properties: {
        group: { type: 'boolean', description: 'CONFIG_VFIO_GROUP; true. Without, devices need iommufd' },
        container: { type: 'boolean', description: 'CONFIG_VFIO_CONTAINER; as group' },
        iommufd: { type: 'boolean', description: 'CONFIG_IOMMUFD; false' },
        iommufdVfioContainer: {
          type: 'boolean',
          description:
            'CONFIG_IOMMUFD_VFIO_CONTAINER: iommufd serves /dev/vfio/vfio; true with iommufd and no container',
        },
        deviceCdev: {
          type: 'boolean',
          description: 'CONFIG_VFIO_DEVICE_CDEV, which needs iommufd; true without group',
        },
        noiommu: { type: 'boolean', description: 'CONFIG_VFIO_NOIOMMU; false' },
        kvm: { type: 'boolean', description: 'CONFIG_KVM: devices can be given to virtual machines; true' },
        debugfs: { type: 'boolean', description: 'CONFIG_VFIO_DEBUGFS; true' },
        iovaBitmap: { type: 'boolean', description: 'CONFIG_IOMMUFD_DRIVER: IOVA bitmaps for DMA logging; true' },
      },
    },
    modules: {
      type: 'array',
      description: 'modules to load, in this order, before the sections are built',
      items: {
        title: 'a name, or a map with name and parameters',
        type: ['string', 'object'],
        minLength: 1,
        additionalProperties: false,
        required: ['name'],
        properties: {
          name: { type: 'string', minLength: 1 },
          parameters: {
            type: 'object',
            additionalProperties: { type: ['string', 'number', 'boolean'] },
            description: 'as on the command line of modprobe',
          },
        },
      },
    },
  },
  $defs: {
    iommu: {
      additionalProperties: false,
      properties: {
        name: {
          type: 'string',
          title: 'a name such as dmar0',
          pattern: '^[^/]+$',
          description: 'its name in /sys/class/iommu; without one, it is not there',
        },
        addressBits: { type: 'integer', minimum: 12, maximum: 64, description: 'width of an IOVA; 48' },
        pageSizes: { ...address, description: 'bitmap of page sizes in bytes; 4 KiB, 2 MiB and 1 GiB' },
        coherent: { type: 'boolean', description: 'DMA is coherent with caches; true' },
        enforceCoherency: { type: 'boolean', description: 'can override no-snoop requests; as coherent' },
        msiIsolated: { type: 'boolean', description: 'interrupt remapping; true' },
        dirtyTracking: { type: 'boolean', description: 'page tables with dirty bits; false' },
        maxPasids: {
          type: 'integer',
          minimum: 0,
          maximum: 1 << 20,
          description: 'PASIDs that it has for each device; without it, its driver knows none',
        },
        reserved: {
          type: 'array',
          description: 'ranges that devices must not use; the MSI window 0xfee00000 to 0xfeefffff',
          items: {
            type: 'object',
            additionalProperties: false,
            required: ['start', 'end', 'type'],
            properties: {
              start: address,
              end: { ...address, description: 'last byte' },
              type: { enum: ['direct', 'direct-relaxable', 'reserved', 'msi'] },
            },
          },
        },
      },
    },
  },
};

/** A number in a machine file. */
export type FileNumber = number | string;

/** The IOMMU of a machine file. */
export interface IommuSection {
  readonly name?: string;
  readonly addressBits?: number;
  readonly pageSizes?: FileNumber;
  readonly coherent?: boolean;
  readonly enforceCoherency?: boolean;
  readonly msiIsolated?: boolean;
  readonly dirtyTracking?: boolean;
  readonly maxPasids?: number;
  readonly reserved?: readonly {
    readonly start: FileNumber;
    readonly end: FileNumber;
    readonly type: 'direct' | 'direct-relaxable' | 'reserved' | 'msi';
  }[];
}

/** A module to load. */
export type ModuleEntry =
  | string
  | { readonly name: string; readonly parameters?: Readonly<Record<string, string | number | boolean>> };

/** A machine file, or the object that stands for one. */
export interface MachineFile {
  readonly version: 1;
  readonly name?: string;
  readonly drivers?: readonly string[];
  readonly host?: {
    readonly byteOrder?: 'little' | 'big';
    readonly firstDynamicMajor?: number;
    readonly iommu?: 'none' | IommuSection;
    readonly devices?: readonly { readonly path: string; readonly iommuGroup?: string }[];
  };
  readonly vfio?: {
    readonly group?: boolean;
    readonly container?: boolean;
    readonly iommufd?: boolean;
    readonly iommufdVfioContainer?: boolean;
    readonly deviceCdev?: boolean;
    readonly noiommu?: boolean;
    readonly kvm?: boolean;
    readonly debugfs?: boolean;
    readonly iovaBitmap?: boolean;
  };
  readonly modules?: readonly ModuleEntry[];
  /** The sections of driver packages. */
  readonly [section: string]: unknown;
}

/** Keys of a machine file that are no sections of drivers. */
export const ownKeys: ReadonlySet<string> = new Set([
  'version',
  'name',
  'drivers',
  'host',
  'vfio',
  'modules',
  '$schema',
]);
