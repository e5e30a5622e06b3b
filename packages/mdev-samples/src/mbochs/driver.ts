/**
 * Module `mbochs`: displays of three sizes that share a pool of video memory.
 */
import { DeviceApi, type Vfio } from '@vfio/core';
import { type AttributeGroup, DriverData, type Module } from '@vfio/host';
import { type MdevBus, type MdevDevice, MdevDriver, MdevType } from '@vfio/mdev';
import { defineSample, type SampleParts } from '../common/module.js';
import { ResourcePool } from '../common/pool.js';
import { probeSample, removeSample } from '../common/probe.js';
import { MbochsDevice } from './device.js';

const NAME = 'mbochs';
/** Video memory of all displays, unless the parameter says otherwise: it counts megabytes, and is called `count`. */
const MAX_MBYTES = 256;

/** What a type of display has. */
export interface MbochsTypeOptions {
  /** `small`, of which `mbochs-small` is made. */
  readonly sysfsName: string;
  /** Video memory. */
  readonly megabytes: number;
  /** Largest picture that the monitor may claim, in pixels; 0 for no limit. */
  readonly maxXres: number;
  readonly maxYres: number;
}

/**
 * A display with some memory.
 *
 * @source samples/vfio-mdev/mbochs.c struct mbochs_type
 */
export class MbochsType extends MdevType {
  readonly megabytes: number;
  readonly maxXres: number;
  readonly maxYres: number;

  constructor({ sysfsName, megabytes, maxXres, maxYres }: MbochsTypeOptions) {
    super(sysfsName, `${NAME}-${sysfsName}`);
    this.megabytes = megabytes;
    this.maxXres = maxXres;
    this.maxYres = maxYres;
  }
}

/**
 * Makes module `mbochs` known to the host of `vfio`, and `mdev`, which it needs.
 *
 * @source samples/vfio-mdev/mbochs.c
 */
export function defineMbochs(vfio: Vfio): void {
  defineSample(vfio.host, {
    name: NAME,
    parameters: { count: { type: 'int', default: MAX_MBYTES, mode: 0o444 } },
    messages: { major: (major) => `mbochs_dev_init: major ${major}` },
    create: (bus, module) => createParts(vfio, bus, module),
  });
}

function createParts(vfio: Vfio, bus: MdevBus, module: Module): SampleParts {
  const pool = new ResourcePool('megabytes', module.paramOf('count', 'int'));
  const types = [
    new MbochsType({ sysfsName: 'small', megabytes: 4, maxXres: 800, maxYres: 600 }),
    new MbochsType({ sysfsName: 'medium', megabytes: 16, maxXres: 1920, maxYres: 1440 }),
    new MbochsType({ sysfsName: 'large', megabytes: 64, maxXres: 0, maxYres: 0 }),
  ];
  const devices = new DriverData<MbochsDevice>();
  const driver = new MdevDriver({
    name: NAME,
    bus,
    module,
    deviceApi: DeviceApi.PCI,
    getAvailable: (type) => Math.floor(pool.free / typeOf(type).megabytes),
    showDescription: (type) => `virtual display, ${typeOf(type).megabytes} MB video memory\n`,
    devGroups: vendorGroups,
    probe: async (mdev) => {
      const { megabytes, maxXres, maxYres } = typeOf(mdev.type);
      const { memory } = vfio.host;
      const options = { megabytes, maxXres, maxYres, pool, memory, module, seams: vfio.host };
      devices.set(mdev, await probeSample(vfio, MbochsDevice, mdev, options));
    },
    remove: (mdev) => removeSample(devices.get(mdev)),
  });
  return { driver, types };
}

function typeOf(type: MdevType): MbochsType {
  if (type instanceof MbochsType) return type;
  throw new TypeError(`type ${type.sysfsName} is none of mbochs'`);
}

/** Source: samples/vfio-mdev/mbochs.c mdev_dev_groups */
function vendorGroups(mdev: MdevDevice): AttributeGroup[] {
  const show = () => `${typeOf(mdev.type).megabytes} MB\n`;
  return [{ name: 'vendor', attributes: [{ name: 'memory', mode: 0o444, show }] }];
}
