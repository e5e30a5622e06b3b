// Module `testdev`: a bus with some test devices on it, and their driver.

import { allocDevice, putDevice, registerGroupDev, unregisterGroupDev, type Vfio } from '@vfio/core';
import { Bus, Device, Driver, DriverData, type Host, Undo } from '@vfio/host';
import { TestDevice } from './device.js';

const NAME = 'testdev';

/**
 * Makes module `testdev` known to the host of `vfio`. Its parameter `count` says how many devices there are: `testdev0`,
 * `testdev1`, ... Each is alone in its IOMMU group; the machine must have an IOMMU.
 */
export function defineTestDevice(vfio: Vfio): void {
  const { host } = vfio;
  host.modules.define({
    name: NAME,
    parameters: { count: { type: 'uint', default: 1, mode: 0o444 } },
    depends: ['vfio'],
    init: async ({ module, undo }) => {
      const bus = new Bus({ name: NAME });
      await host.devices.busRegister(bus);
      undo.add(() => host.devices.busUnregister(bus));
      for (let i = 0; i < module.paramOf('count', 'uint'); i++) {
        const remove = await addDevice(host, bus, `${NAME}${i}`);
        undo.add(remove);
      }
      const data = new DriverData<TestDevice>();
      const driver = new Driver({
        name: NAME,
        bus,
        module,
        probe: async (dev) => {
          const device = await allocDevice(vfio, TestDevice, dev, undefined);
          await using unmade = new Undo();
          unmade.add(() => putDevice(device));
          await registerGroupDev(device);
          unmade.keep();
          data.set(dev, device);
        },
        remove: async (dev) => {
          const device = data.get(dev);
          await unregisterGroupDev(device);
          await putDevice(device);
        },
      });
      await host.devices.driverRegister(driver);
      undo.add(() => host.devices.driverUnregister(driver));
    },
  });
}

/** Adds a device that has an IOMMU group of its own; returns how it is taken away again. */
async function addDevice(host: Host, bus: Bus, name: string): Promise<() => Promise<void>> {
  const dev = new Device({ name, bus });
  host.devices.init(dev);
  await using undo = new Undo();
  undo.add(() => dev.put());
  await host.devices.add(dev);
  undo.add(() => host.devices.del(dev));
  host.iommu.probeDevice(dev);
  undo.keep();
  return async () => {
    host.iommu.removeDevice(dev);
    await host.devices.unregister(dev);
  };
}
