/*
 * Module `vfio_pci` and its driver: a device of VFIO for each function that an administrator gives to it.
 */
import { allocDevice, putDevice, type Vfio } from '@vfio/core';
import { KernelBug, type Module, type ModuleSpec, SystemError } from '@vfio/host';
import type { PciBusType } from './bus/bus-type.js';
import { pciInit } from './bus/bus-type.js';
import { getDrvdata, setDrvdata } from './bus/drvdata.js';
import { addIdsParam } from './bus/ids-param.js';
import type { PciDev } from './bus/pci-dev.js';
import { PCI_ANY_ID, PciDriver, registerDriver, unregisterDriver } from './bus/pci-driver.js';
import type { PciCoreOptions } from './core/core-device.js';
import { coreErrHandlers } from './core/events.js';
import { isPciCoreDevice } from './core/is-core-device.js';
import { defineVfioPciCore } from './core/module.js';
import { registerDevice, unregisterDevice } from './core/register.js';
import { sriovConfigure } from './core/sriov.js';
import { isDenied } from './denylist.js';
import { VfioPciDevice } from './device.js';

const NAME = 'vfio-pci';

/** What the kernel was built with. */
export interface VfioPciOptions {
  /** CONFIG_VFIO_PCI_VGA: the parameter `disable_vga` exists, and legacy VGA addresses are offered. On by default. */
  readonly vga?: boolean;
}

/**
 * Makes modules `vfio_pci` and `vfio_pci_core` known to the host of `vfio`.
 *
 * @source drivers/vfio/pci/vfio_pci.c
 */
export function defineVfioPci(vfio: Vfio, options: VfioPciOptions = {}): void {
  defineVfioPciCore(vfio.host);
  vfio.host.modules.define(vfioPciModule(vfio, options));
}

function vfioPciModule(vfio: Vfio, { vga = true }: VfioPciOptions): ModuleSpec {
  const { host } = vfio;
  return {
    name: 'vfio_pci',
    aliases: [NAME],
    depends: ['vfio_pci_core'],
    parameters: {
      ids: { type: 'charp', default: undefined, mode: 0 },
      nointxmask: { type: 'bool', default: false, mode: 0o644 },
      ...(vga ? { disable_vga: { type: 'bool', default: false, mode: 0o444 } as const } : {}),
      disable_idle_d3: { type: 'bool', default: false, mode: 0o644 },
      enable_sriov: { type: 'bool', default: false, mode: 0o644 },
      disable_denylist: { type: 'bool', default: false, mode: 0o444 },
    },
    init: async ({ module, undo }) => {
      const driver = vfioPciDriver(vfio, await pciInit(host), module, vga);
      await registerDriver(driver);
      undo.add(() => unregisterDriver(driver));
      await addIdsParam(driver, module.paramOf('ids', 'charp'));
      if (module.paramOf('disable_denylist', 'bool')) host.log.warn('device denylist disabled.', NAME);
    },
  };
}

/** Source: drivers/vfio/pci/vfio_pci.c vfio_pci_driver */
function vfioPciDriver(vfio: Vfio, bus: PciBusType, module: Module, vga: boolean): PciDriver {
  const parameters = (): PciCoreOptions => ({
    nointxmask: module.paramOf('nointxmask', 'bool'),
    disableIdleD3: module.paramOf('disable_idle_d3', 'bool'),
    disableVga: !vga || module.paramOf('disable_vga', 'bool'),
  });
  return new PciDriver({
    name: NAME,
    bus,
    module,
    managesDma: true,
    idTable: [
      {
        vendor: PCI_ANY_ID,
        device: PCI_ANY_ID,
        subvendor: PCI_ANY_ID,
        subdevice: PCI_ANY_ID,
        class: 0,
        classMask: 0,
        overrideOnly: true,
      },
    ],
    errHandler: coreErrHandlers,
    probe: async (pdev) => {
      if (isDenied(pdev, module.paramOf('disable_denylist', 'bool'))) {
        throw new SystemError('EINVAL', 'it is known not to work', { syscall: 'vfio_pci_probe', subject: pdev.name });
      }
      await probe(vfio, pdev, parameters());
    },
    remove: async (pdev) => {
      const device = deviceOf(pdev);
      await unregisterDevice(device);
      await putDevice(device);
    },
    sriovConfigure: async (pdev, count) => {
      if (!module.paramOf('enable_sriov', 'bool')) {
        throw new SystemError('ENOENT', 'enable_sriov is not set', { subject: pdev.name });
      }
      return await sriovConfigure(deviceOf(pdev), count);
    },
  });
}

/** Source: drivers/vfio/pci/vfio_pci.c vfio_pci_probe() */
async function probe(vfio: Vfio, pdev: PciDev, options: PciCoreOptions): Promise<void> {
  const device = await allocDevice(vfio, VfioPciDevice, pdev, { pdev, options });
  setDrvdata(pdev, device);
  try {
    await registerDevice(device);
  } catch (error) {
    await putDevice(device);
    throw error;
  }
}

function deviceOf(pdev: PciDev): VfioPciDevice {
  const device = getDrvdata(pdev);
  if (isPciCoreDevice(device) && device instanceof VfioPciDevice) return device;
  throw new KernelBug('driver', `${pdev.name} is not a device of ${NAME}`);
}
