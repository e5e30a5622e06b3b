/**
 * Module `mdpy`: displays of three sizes, counted by the mdev core.
 */
import { DeviceApi, type Vfio } from '@vfio/core';
import { type AttributeGroup, DriverData, type Module } from '@vfio/host';
import { type MdevBus, type MdevDevice, MdevDriver, MdevType } from '@vfio/mdev';
import { defineSample, type SampleParts } from '../common/module.js';
import { probeSample, removeSample } from '../common/probe.js';
import { MdpyDevice } from './device.js';
import { Geometry } from './framebuffer.js';

const NAME = 'mdpy';
/** Displays that there may be, over all types, unless parameter `count` says otherwise. */
const MAX_DEVICES = 4;

/**
 * A display of some size.
 *
 * @source samples/vfio-mdev/mdpy.c struct mdpy_type
 */
export class MdpyType extends MdevType {
  readonly geometry: Geometry;

  /**
   * @param sysfsName - `vga`, of which `mdpy-vga` is made
   * @param width - pixels
   * @param height - pixels
   */
  constructor(sysfsName: string, width: number, height: number) {
    super(sysfsName, `${NAME}-${sysfsName}`);
    this.geometry = new Geometry(width, height);
  }
}

/**
 * Makes module `mdpy` known to the host of `vfio`, and `mdev`, which it needs.
 *
 * @source samples/vfio-mdev/mdpy.c
 */
export function defineMdpy(vfio: Vfio): void {
  defineSample(vfio.host, {
    name: NAME,
    parameters: { count: { type: 'int', default: MAX_DEVICES, mode: 0o444 } },
    messages: { major: (major) => `mdpy_dev_init: major ${major}` },
    create: (bus, module) => createParts(vfio, bus, module),
  });
}

function createParts(vfio: Vfio, bus: MdevBus, module: Module): SampleParts {
  const types = [new MdpyType('vga', 640, 480), new MdpyType('xga', 1024, 768), new MdpyType('hd', 1920, 1080)];
  const devices = new DriverData<MdpyDevice>();
  const driver = new MdevDriver({
    name: NAME,
    bus,
    module,
    deviceApi: DeviceApi.PCI,
    maxInstances: module.paramOf('count', 'int'),
    showDescription: (type) => `virtual display, ${resolutionOf(type)} framebuffer\n`,
    devGroups: vendorGroups,
    probe: async (mdev) => {
      const { memory } = vfio.host;
      const options = { geometry: geometryOf(mdev.type), memory, seams: vfio.host };
      devices.set(mdev, await probeSample(vfio, MdpyDevice, mdev, options));
    },
    remove: (mdev) => removeSample(devices.get(mdev)),
  });
  return { driver, types };
}

function geometryOf(type: MdevType): Geometry {
  if (type instanceof MdpyType) return type.geometry;
  throw new TypeError(`type ${type.sysfsName} is none of mdpy's`);
}

function resolutionOf(type: MdevType): string {
  const { width, height } = geometryOf(type);
  return `${width}x${height}`;
}

/** Source: samples/vfio-mdev/mdpy.c mdev_dev_groups */
function vendorGroups(mdev: MdevDevice): AttributeGroup[] {
  const show = () => `${resolutionOf(mdev.type)}\n`;
  return [{ name: 'vendor', attributes: [{ name: 'resolution', mode: 0o444, show }] }];
}
