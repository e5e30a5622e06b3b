/*
 * Drivers that stand beside VFIO's in a group: one that only keeps others away, and one for drivers in user space without an
 * IOMMU, which uses DMA as a native driver does.
 */
import type { Host, ModuleSpec } from '@vfio/host';
import { SystemError, Undo } from '@vfio/host';
import { pciInit } from './bus/bus-type.js';
import { disableDevice, enableDevice } from './bus/enable.js';
import { addIdsParam } from './bus/ids-param.js';
import { intxMaskSupported } from './bus/intx.js';
import { PciDriver, registerDriver, unregisterDriver } from './bus/pci-driver.js';

/**
 * Makes the modules `pci_stub` and `uio_pci_generic` known to a host.
 *
 * @source drivers/pci/pci-stub.c, drivers/uio/uio_pci_generic.c
 */
export function defineStubDrivers(host: Host): void {
  host.modules.define(pciStub(host));
  host.modules.define(uioPciGeneric(host));
}

/** It touches nothing, so that its devices do not keep their group from VFIO. */
function pciStub(host: Host): ModuleSpec {
  return {
    name: 'pci_stub',
    aliases: ['pci-stub'],
    parameters: { ids: { type: 'charp', default: undefined, mode: 0 } },
    init: async ({ module, undo }) => {
      const driver = new PciDriver({
        name: 'pci-stub',
        bus: await pciInit(host),
        module,
        managesDma: true,
        probe: (pdev) => {
          host.log.info('claimed by stub', `pci-stub ${pdev.name}`);
        },
      });
      await registerDriver(driver);
      undo.add(() => unregisterDriver(driver));
      await addIdsParam(driver, module.paramOf('ids', 'charp'));
    },
  };
}

/** Differs: there is no /dev/uio; the device is enabled, and its DMA in use by a native driver. */
function uioPciGeneric(host: Host): ModuleSpec {
  return {
    name: 'uio_pci_generic',
    version: '0.01.0',
    init: async ({ module, undo }) => {
      const driver = new PciDriver({
        name: 'uio_pci_generic',
        bus: await pciInit(host),
        module,
        probe: async (pdev) => {
          await using steps = new Undo();
          await enableDevice(pdev);
          steps.add(() => disableDevice(pdev));
          if (pdev.irq !== 0 && !intxMaskSupported(pdev)) {
            throw new SystemError('ENODEV', 'its pin can not be masked', { subject: pdev.name });
          }
          steps.keep();
        },
        remove: (pdev) => disableDevice(pdev),
      });
      await registerDriver(driver);
      undo.add(() => unregisterDriver(driver));
    },
  };
}
