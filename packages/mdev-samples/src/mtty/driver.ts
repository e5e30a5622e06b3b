/**
 * Module `mtty`: a pool of 24 serial ports, and two types of cards that take one or two of them.
 */
import { DeviceApi, type Vfio } from '@vfio/core';
import { type AttributeGroup, DriverData, type Module } from '@vfio/host';
import { type MdevBus, type MdevDevice, MdevDriver, MdevType } from '@vfio/mdev';
import { defineSample, type SampleParts } from '../common/module.js';
import { ResourcePool } from '../common/pool.js';
import { probeSample, removeSample } from '../common/probe.js';
import { Uart16550 } from '../hardware/uart-16550.js';
import { MttyDevice } from './device.js';
import type { SerialPortFactory } from './hw.js';

const NAME = 'mtty';
const VERSION = '0.1';
/** Source: samples/vfio-mdev/mtty.c MAX_MTTYS */
const MAX_PORTS = 24;

/** What can be chosen when the module is defined. */
export interface MttyOptions {
  /** What a card has in its sockets. Default: {@link Uart16550}. */
  readonly createPort?: SerialPortFactory;
}

/**
 * A card with some ports.
 *
 * @source samples/vfio-mdev/mtty.c struct mtty_type
 */
export class MttyType extends MdevType {
  readonly ports: number;

  constructor(ports: number, prettyName: string) {
    super(String(ports), prettyName);
    this.ports = ports;
  }
}

/**
 * Makes module `mtty` known to the host of `vfio`, and `mdev`, which it needs.
 *
 * @source samples/vfio-mdev/mtty.c
 */
export function defineMtty(vfio: Vfio, options: MttyOptions = {}): void {
  const { createPort = (interrupt) => new Uart16550(interrupt) } = options;
  defineSample(vfio.host, {
    name: NAME,
    version: VERSION,
    messages: {
      loading: 'mtty_dev: mtty_dev_init',
      major: (major) => `major_number:${major}`,
      unloaded: 'mtty_dev: Unloaded!',
    },
    create: (bus, module) => createParts(vfio, bus, module, createPort),
  });
}

function createParts(vfio: Vfio, bus: MdevBus, module: Module, createPort: SerialPortFactory): SampleParts {
  const pool = new ResourcePool('ports', MAX_PORTS);
  const types = [new MttyType(1, 'Single port serial'), new MttyType(2, 'Dual port serial')];
  const devices = new DriverData<MttyDevice>();
  const driver = new MdevDriver({
    name: NAME,
    bus,
    module,
    deviceApi: DeviceApi.PCI,
    getAvailable: (type) => Math.floor(pool.free / portsOf(type)),
    devGroups: vendorGroups,
    probe: async (mdev) => {
      const parts = { ports: portsOf(mdev.type), pool, createPort, module, seams: vfio.host };
      devices.set(mdev, await probeSample(vfio, MttyDevice, mdev, parts));
    },
    remove: (mdev) => removeSample(devices.get(mdev)),
  });
  return { driver, types };
}

function portsOf(type: MdevType): number {
  if (type instanceof MttyType) return type.ports;
  throw new TypeError(`type ${type.sysfsName} is none of mtty's`);
}

/** Source: samples/vfio-mdev/mtty.c mdev_dev_groups */
function vendorGroups(mdev: MdevDevice): AttributeGroup[] {
  const show = () => `This is MDEV ${mdev.name}\n`;
  return [{ name: 'vendor', attributes: [{ name: 'sample_mdev_dev', mode: 0o444, show }] }];
}
