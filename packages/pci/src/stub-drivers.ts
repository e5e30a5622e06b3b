/*
 * Drivers that stand beside VFIO's: one that only keeps others away, one that does nothing but make virtual functions, and one
 * for drivers in user space without an IOMMU, which uses DMA as a native driver does.
 */
import type { Host, ModuleSpec } from '@vfio/host';
import { SystemError, Undo } from '@vfio/host';
import { pciInit } from './bus/bus-type.js';
import { disableDevice, enableDevice } from './bus/enable.js';
import { addIdsParam } from './bus/ids-param.js';
import { intxMaskSupported } from './bus/intx.js';
import { PCI_ANY_ID, PciDriver, registerDriver, unregisterDriver } from './bus/pci-driver.js';
import { sriovConfigureSimple } from './bus/sriov.js';

/** The function that `pci-pf-stub` is for: Amazon's, whose virtual functions are all there is to it. */
const AMAZON_PF = { vendor: 0x1d0f, device: 0x0053 } as const;

/**
 * Makes the modules `pci_stub`, `pci_pf_stub` and `uio_pci_generic` known to a host.
 *
 * @source drivers/pci/pci-stub.c, drivers/pci/pci-pf-stub.c, drivers/uio/uio_pci_generic.c
 */
export function defineStubDrivers(host: Host): void {
  host.modules.define(pciStub(host));
  host.modules.define(pciPfStub(host));
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

/** For physical functions that need nothing but to be told how many virtual ones there shall be. */
function pciPfStub(host: Host): ModuleSpec {
  return {
    name: 'pci_pf_stub',
    aliases: ['pci-pf-stub'],
    init: async ({ module, undo }) => {
      const driver = new PciDriver({
        name: 'pci-pf-stub',
        bus: await pciInit(host),
        module,
        idTable: [{ ...AMAZON_PF, subvendor: PCI_ANY_ID, subdevice: PCI_ANY_ID, class: 0, classMask: 0 }],
        probe: (pdev) => {
          host.log.info('claimed by pci-pf-stub', `pci-pf-stub ${pdev.name}`);
        },
        sriovConfigure: sriovConfigureSimple,
      });
      await registerDriver(driver);
      undo.add(() => unregisterDriver(driver));
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
