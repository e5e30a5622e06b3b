/**
 * The sample mediated devices in a machine file:
 *
 *     mdev-samples:
 *       mtty:
 *         devices:
 *           - { uuid: 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001, type: mtty-2 }
 *       mdpy:
 *         count: 8
 *         devices:
 *           - { uuid: 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002, type: mdpy-xga }
 *       mbochs:
 *         devices:
 *           - { uuid: 83b8f4f2-509f-382f-3c1e-e6bfe0fa1003, type: mbochs-small }
 */
import type {
  DriverPackage,
  ExerciseStep,
  ExerciseTarget,
  JsonSchema,
  MachineContext,
  SampleMachine,
} from '@vfio/core';
import { mdevDriverOf } from './common/exercise.js';
import { defineMbochs } from './mbochs/driver.js';
import { exerciseMbochs } from './mbochs/exercise.js';
import { defineMdpy } from './mdpy/driver.js';
import { exerciseMdpy } from './mdpy/exercise.js';
import { defineMtty } from './mtty/driver.js';
import { exerciseMtty } from './mtty/exercise.js';

/** A mediated device to be created. */
export interface MdevEntry {
  readonly uuid: string;
  /** Directory of its type, `mtty-1`, `mdpy-vga`, `mbochs-small`. */
  readonly type: string;
}

/** One sample of the section. */
export interface SampleSection {
  /** Whether its module is loaded. Default: true. */
  readonly load?: boolean;
  /** Created in this order, once the module is loaded. */
  readonly devices?: readonly MdevEntry[];
}

/** A sample whose module has a parameter. */
export interface CountedSection extends SampleSection {
  /** Of mdpy: displays that there may be. Of mbochs: megabytes of video memory that they share. Default: the module's. */
  readonly count?: number;
}

/** The section of a machine file. */
export interface MdevSamplesSection {
  readonly mtty?: SampleSection;
  readonly mdpy?: CountedSection;
  readonly mbochs?: CountedSection;
}

/** Largest value of a module parameter. */
const INT_MAX = 0x7fff_ffff;
const uuid = '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$';

function sampleSchema(types: readonly string[], parameters: JsonSchema = {}): JsonSchema {
  return {
    type: 'object',
    additionalProperties: false,
    properties: {
      load: { type: 'boolean', default: true, description: 'whether the module is loaded' },
      ...parameters,
      devices: {
        type: 'array',
        description: 'mediated devices, in the order in which they are created',
        items: {
          type: 'object',
          additionalProperties: false,
          required: ['uuid', 'type'],
          properties: { uuid: { type: 'string', pattern: uuid }, type: { enum: types } },
        },
      },
    },
    // a module that is not loaded has no devices
    if: { required: ['load'], properties: { load: { const: false } } },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: { properties: { devices: { maxItems: 0 } } },
  };
}

const exercises = new Map<string, (target: ExerciseTarget) => AsyncIterable<ExerciseStep>>([
  ['mtty', exerciseMtty],
  ['mdpy', exerciseMdpy],
  ['mbochs', exerciseMbochs],
]);

/** A machine with one mediated device. */
function sampleMachine(module: string, type: string, summary: string): SampleMachine {
  const address = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
  return {
    summary,
    file: {
      modules: ['vfio_iommu_type1'],
      'mdev-samples': { [module]: { devices: [{ uuid: address, type }] } },
    },
    address,
  };
}

/** What a machine and the command line need to know of this package. */
export const driverPackage: DriverPackage<MdevSamplesSection> = {
  package: '@vfio/mdev-samples',
  section: 'mdev-samples',
  schema: {
    type: 'object',
    additionalProperties: false,
    properties: {
      mtty: sampleSchema(['mtty-1', 'mtty-2']),
      mdpy: sampleSchema(['mdpy-vga', 'mdpy-xga', 'mdpy-hd'], {
        count: {
          type: 'integer',
          minimum: 0,
          maximum: INT_MAX,
          description: 'displays that there may be, 4 by default',
        },
      }),
      mbochs: sampleSchema(['mbochs-small', 'mbochs-medium', 'mbochs-large'], {
        count: {
          type: 'integer',
          minimum: 0,
          maximum: INT_MAX,
          description: 'megabytes for all displays, 256 by default',
        },
      }),
    },
  },
  modules: ['mdev', 'mtty', 'mdpy', 'mbochs'],
  samples: {
    mtty: sampleMachine('mtty', 'mtty-2', 'a serial card with two ports'),
    mdpy: sampleMachine('mdpy', 'mdpy-xga', 'a display of 1024 by 768 pixels'),
    mbochs: sampleMachine('mbochs', 'mbochs-medium', 'a display of QEMU that bochs-drm drives'),
  },

  define(machine) {
    defineMtty(machine.vfio);
    defineMdpy(machine.vfio);
    defineMbochs(machine.vfio);
  },

  async build(machine, section) {
    if (section.mtty) await buildSample(machine, 'mtty', section.mtty);
    if (section.mdpy) await buildSample(machine, 'mdpy', section.mdpy);
    if (section.mbochs) await buildSample(machine, 'mbochs', section.mbochs);
  },

  exercise(target) {
    return exercises.get(mdevDriverOf(target) ?? '')?.(target);
  },
};

/** Creates devices as an administrator does: by writing to sysfs. */
async function buildSample({ host }: MachineContext, module: string, section: CountedSection): Promise<void> {
  if (section.load === false) return;
  await host.modules.modprobe(module, section.count === undefined ? {} : { count: String(section.count) });
  for (const { uuid, type } of section.devices ?? []) {
    await host.init.writeFile(`/sys/class/mdev_bus/${module}/mdev_supported_types/${type}/create`, uuid);
  }
}
