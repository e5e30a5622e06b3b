/*
 * Features of a PCI function, beside those that the core of VFIO answers for every device.
 */
import { Feature, type FeatureCall } from '@vfio/core';
import type { PciCoreDevice } from './core-device.js';
import { featurePmEntry, featurePmEntryWithWakeup, featurePmExit } from './power.js';
import { featureToken } from './vf-token.js';

/**
 * VFIO_DEVICE_FEATURE.
 *
 * @throws ENOTTY - there is no such feature
 * @throws EOPNOTSUPP - the driver does not let others have its BARs
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_ioctl_feature()
 */
export function coreIoctlFeature(device: PciCoreDevice, feature: FeatureCall): number | Promise<number> {
  switch (feature.feature) {
    case Feature.LOW_POWER_ENTRY:
      return featurePmEntry(device, feature);
    case Feature.LOW_POWER_ENTRY_WITH_WAKEUP:
      return featurePmEntryWithWakeup(device, feature);
    case Feature.LOW_POWER_EXIT:
      return featurePmExit(device, feature);
    case Feature.PCI_VF_TOKEN:
      return featureToken(device, feature);
    case Feature.DMA_BUF:
      return device.dmabufs.feature(feature);
    default:
      throw feature.error('ENOTTY', `it has no feature ${feature.feature}`);
  }
}
