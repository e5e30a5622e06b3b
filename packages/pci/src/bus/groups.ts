/*
 * IOMMU groups, as the topology makes them: functions whose requests look alike to the IOMMU, or that can reach each other
 * without passing it, are in one.
 */
import type { IommuGroup, ProbeOptions } from '@vfio/host';
import { acsEnabled, acsPathEnabled } from './acs.js';
import { pasidSupport } from './pasid.js';
import type { PciDev } from './pci-dev.js';
import { ExpType, slotOf } from './regs.js';

/** How a function sits behind the IOMMU; undefined in a machine without. */
export function iommuPlace(pdev: PciDev): ProbeOptions | undefined {
  if (!pdev.pciHost.iommu.present) return undefined;
  const group = pciDeviceGroup(pdev);
  const pasids = pasidSupport(pdev);
  return { ...(group ? { group } : {}), ...(pasids ? { pasids } : {}) };
}

/**
 * The group that a function has to join; undefined when it can have one of its own.
 *
 * @source drivers/iommu/iommu.c pci_device_group()
 */
export function pciDeviceGroup(pdev: PciDev): IommuGroup | undefined {
  let at = pdev;
  // Where requests get another name, everything behind is one to the IOMMU.
  for (const alias of dmaAliases(pdev)) {
    at = alias;
    if (alias.iommuGroup) return alias.iommuGroup;
  }
  for (let bridge = at.pciBus.self; bridge && !acsPathEnabled(bridge); bridge = at.pciBus.self) {
    at = bridge;
    if (at.iommuGroup) return at.iommuGroup;
  }
  return functionGroup(at);
}

/** The bridges that put their own name on a function's requests. Source: drivers/pci/search.c pci_for_each_dma_alias() */
function dmaAliases(pdev: PciDev): PciDev[] {
  const aliases: PciDev[] = [];
  for (let bridge = pdev.pciBus.self; bridge; bridge = bridge.pciBus.self) {
    const { ROOT_PORT, UPSTREAM, DOWNSTREAM } = ExpType;
    const passes = [ROOT_PORT, UPSTREAM, DOWNSTREAM].some((type) => bridge?.pcieType === type);
    if (!bridge.isPcie || !passes) aliases.push(bridge);
  }
  return aliases;
}

/** The group of another function in the same slot that nothing isolates. Source: get_pci_function_alias_group() */
function functionGroup(pdev: PciDev): IommuGroup | undefined {
  if (!pdev.multifunction || acsEnabled(pdev)) return undefined;
  const slot = slotOf(pdev.devfn);
  const other = pdev.pciBus.devices.find(
    (dev) => dev !== pdev && slotOf(dev.devfn) === slot && dev.iommuGroup && !acsEnabled(dev),
  );
  return other?.iommuGroup;
}
