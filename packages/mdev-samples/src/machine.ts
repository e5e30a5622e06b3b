/**
 * The sample mediated devices in a machine file:
 *
 *     mdev-samples:
 *       mtty:
 *         devices:
 *           - { uuid: 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001, type: mtty-2 }
 */
import {
  type DriverPackage,
  type ExerciseDevice,
  type ExerciseStep,
  type ExerciseTarget,
  type JsonSchema,
  type MachineContext,
  PciIrqIndex,
  PciRegionIndex,
} from '@vfio/core';
import { isSystemError } from '@vfio/host';
import { Fcr, Ier, Lsr, Mcr, UartRegister } from './hardware/uart-16550.js';
import { defineMtty } from './mtty/driver.js';

/** A mediated device to be created. */
export interface MdevEntry {
  readonly uuid: string;
  /** Directory of its type, `mtty-1`. */
  readonly type: string;
}

/** One sample of the section. */
export interface SampleSection {
  /** Whether its module is loaded. Default: true. */
  readonly load?: boolean;
  /** Created in this order, once the module is loaded. */
  readonly devices?: readonly MdevEntry[];
}

/** The section of a machine file. */
export interface MdevSamplesSection {
  readonly mtty?: SampleSection;
}

const uuid = '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$';

function sampleSchema(types: readonly string[]): JsonSchema {
  return {
    type: 'object',
    additionalProperties: false,
    properties: {
      load: { type: 'boolean', default: true, description: 'whether the module is loaded' },
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

/** What a machine and the command line need to know of this package. */
export const driverPackage: DriverPackage<MdevSamplesSection> = {
  package: '@vfio/mdev-samples',
  section: 'mdev-samples',
  schema: {
    type: 'object',
    additionalProperties: false,
    properties: { mtty: sampleSchema(['mtty-1', 'mtty-2']) },
  },
  modules: ['mdev', 'mtty'],

  define(machine) {
    defineMtty(machine.vfio);
  },

  async build(machine, section) {
    if (section.mtty) await buildSample(machine, 'mtty', section.mtty);
  },

  exercise(target) {
    return isMtty(target) ? exerciseMtty(target) : undefined;
  },
};

/** Creates devices as an administrator does: by writing to sysfs. */
async function buildSample({ host }: MachineContext, module: string, section: SampleSection): Promise<void> {
  if (section.load === false) return;
  await host.modules.modprobe(module);
  for (const { uuid, type } of section.devices ?? []) {
    await host.init.writeFile(`/sys/class/mdev_bus/${module}/mdev_supported_types/${type}/create`, uuid);
  }
}

function isMtty({ address, process }: ExerciseTarget): boolean {
  try {
    return process.readlink(`/sys/bus/mdev/devices/${address}/driver`).endsWith('/mtty');
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false; // no mediated device at all
  }
}

const ports = [PciRegionIndex.BAR0, PciRegionIndex.BAR1];
/** Eight data bits, and the divisor latch closed. */
const EIGHT_BITS = 0x03;
const message = new TextEncoder().encode('Hello, mtty');

async function* exerciseMtty({ address, process, device }: ExerciseTarget): AsyncGenerator<ExerciseStep, void> {
  const type = process.readlink(`/sys/bus/mdev/devices/${address}/mdev_type`);
  for (const bar of ports.slice(0, type.endsWith('-2') ? 2 : 1)) {
    yield await step(`port ${bar} loop back`, () => loopBack(device, bar));
  }
  yield await step('port 0 interrupt', async () => {
    const eventfd = process.eventfd(0, { nonblock: true });
    try {
      return await interrupt(device, eventfd, () => process.read(eventfd, new Uint8Array(8)));
    } finally {
      await process.close(eventfd);
    }
  });
}

async function step(name: string, run: () => Promise<string>): Promise<ExerciseStep> {
  try {
    return { name, ok: true, detail: await run() };
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

/** Sends a text through a port, which hears itself. */
async function loopBack(device: ExerciseDevice, bar: number): Promise<string> {
  await device.writeRegion(bar, UartRegister.LCR, Uint8Array.of(EIGHT_BITS));
  await device.writeRegion(bar, UartRegister.FCR, Uint8Array.of(Fcr.ENABLE | Fcr.CLEAR_RECEIVER));
  for (const byte of message) await device.writeRegion(bar, UartRegister.DATA, Uint8Array.of(byte));
  const heard: number[] = [];
  while (((await register(device, bar, UartRegister.LSR)) & Lsr.DR) !== 0) {
    heard.push(await register(device, bar, UartRegister.DATA));
  }
  const text = new TextDecoder().decode(Uint8Array.from(heard));
  if (text !== new TextDecoder().decode(message)) throw new Error(`sent ${message.length} bytes, heard '${text}'`);
  return `${heard.length} bytes sent and heard`;
}

/** A modem line that rises interrupts by INTx, which masks itself: two causes, one signal. */
async function interrupt(
  device: ExerciseDevice,
  eventfd: number,
  take: () => number | Promise<number>,
): Promise<string> {
  const { BAR0 } = PciRegionIndex;
  await device.setTriggers(PciIrqIndex.INTX, [eventfd]);
  await device.writeRegion(BAR0, UartRegister.IER, Uint8Array.of(Ier.MSI));
  await device.writeRegion(BAR0, UartRegister.MCR, Uint8Array.of(Mcr.OUT2 | Mcr.DTR));
  await take();
  await device.writeRegion(BAR0, UartRegister.MCR, Uint8Array.of(0));
  await device.writeRegion(BAR0, UartRegister.IER, Uint8Array.of(0));
  await device.setTriggers(PciIrqIndex.INTX, []);
  return 'INTx signalled by a modem line';
}

async function register(device: ExerciseDevice, bar: number, offset: number): Promise<number> {
  const [value = 0] = await device.readRegion(bar, offset, 1);
  return value;
}
