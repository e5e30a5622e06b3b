/*
 * PASIDs: a function can tag its requests with numbers, if everything up to the root passes such requests on and the IOMMU knows
 * what to do with them.
 */
import { isSystemError, type PasidSupport, SystemError } from '@vfio/host';
import { acsPathEnabled } from './acs.js';
import { findExtCapability } from './caps.js';
import { readConfigDword, readConfigWord, writeConfigWord } from './config.js';
import { Pasid } from './ext-cap-regs.js';
import type { PciDev } from './pci-dev.js';
import { Acs, Exp, ExpType, ExtCapId } from './regs.js';

/** What may not go around the IOMMU, where nobody understands tags. */
const ISOLATION = Acs.RR | Acs.UF;

/**
 * How many PASIDs a function has; a virtual one has those of its physical one.
 *
 * @returns 0 - it tags nothing
 * @source drivers/pci/ats.c pci_max_pasids()
 */
export function maxPasids(pdev: PciDev): number {
  const own = pdev.physfn ?? pdev;
  const cap = findExtCapability(own, ExtCapId.PASID);
  return cap === 0 ? 0 : 1 << ((readConfigWord(own, cap + Pasid.CAP) & Pasid.CAP_WIDTH) >> Pasid.CAP_WIDTH_SHIFT);
}

/**
 * What a function may ask for with its PASIDs.
 *
 * @returns bits of `Pasid`
 * @source drivers/pci/ats.c pci_pasid_features()
 */
export function pasidFeatures(pdev: PciDev): number {
  const own = pdev.physfn ?? pdev;
  const cap = findExtCapability(own, ExtCapId.PASID);
  return cap === 0 ? 0 : readConfigWord(own, cap + Pasid.CAP) & (Pasid.EXEC | Pasid.PRIV);
}

/**
 * Lets a function tag its requests. Virtual ones follow their physical one.
 *
 * @param features - what it may ask for, bits of `Pasid`
 * @throws EBUSY - it does already
 * @throws EINVAL - it has no PASIDs or not these features, something on the way does not pass tags on, or requests could go
 *   around the IOMMU; a physical function tags nothing
 * @source drivers/pci/ats.c pci_enable_pasid()
 */
export function enablePasid(pdev: PciDev, features: number): void {
  if (pdev.isVirtfn) {
    if (pdev.physfn?.pasidControl) return;
    throw failure('EINVAL', pdev, 'its physical function does not use PASIDs');
  }
  if (pdev.pasidControl !== 0) throw failure('EBUSY', pdev, 'it uses PASIDs already');
  if (!passesPrefixes(pdev)) throw failure('EINVAL', pdev, 'tags do not get to the root');
  const cap = findExtCapability(pdev, ExtCapId.PASID);
  if (cap === 0 || (features & ~pasidFeatures(pdev)) !== 0) throw failure('EINVAL', pdev, 'it does not have that');
  if (!acsPathEnabled(pdev, ISOLATION)) throw failure('EINVAL', pdev, 'requests could go around the IOMMU');
  pdev.pasidControl = Pasid.CTRL_ENABLE | features;
  writeConfigWord(pdev, cap + Pasid.CTRL, pdev.pasidControl);
}

/** It tags nothing any more. Source: drivers/pci/ats.c pci_disable_pasid() */
export function disablePasid(pdev: PciDev): void {
  if (pdev.isVirtfn || pdev.pasidControl === 0) return;
  pdev.pasidControl = 0;
  writeConfigWord(pdev, findExtCapability(pdev, ExtCapId.PASID) + Pasid.CTRL, 0);
}

/** After a reset it tags requests again. Source: drivers/pci/ats.c pci_restore_pasid_state() */
export function restorePasidState(pdev: PciDev): void {
  if (pdev.isVirtfn || pdev.pasidControl === 0) return;
  writeConfigWord(pdev, findExtCapability(pdev, ExtCapId.PASID) + Pasid.CTRL, pdev.pasidControl);
}

/**
 * The PASIDs of a new function, switched on if the machine has an IOMMU that knows them.
 *
 * Differs: with VT-d, Linux counts PASIDs of functions whose requests it could not let be tagged, too.
 *
 * @returns undefined - it tags nothing
 * @source drivers/iommu/intel/iommu.c intel_iommu_probe_device(), intel_iommu_probe_finalize()
 */
export function pasidSupport(pdev: PciDev): Partial<PasidSupport> | undefined {
  const max = maxPasids(pdev);
  const [unit] = pdev.pciHost.iommu.units;
  if (max === 0 || !unit?.maxPasids) return undefined;
  const features = pasidFeatures(pdev);
  try {
    enablePasid(pdev, features);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
  return { max, exec: (features & Pasid.EXEC) !== 0, priv: (features & Pasid.PRIV) !== 0 };
}

/** Whether prefixes from end to end get from a function to the root. Source: drivers/pci/probe.c pci_configure_eetlp_prefix() */
function passesPrefixes(pdev: PciDev): boolean {
  for (let at: PciDev | undefined = pdev; at; at = at.pciBus.self) {
    if (!at.isPcie || (readConfigDword(at, at.pcieCap + Exp.DEVCAP2) & Exp.DEVCAP2_EE_PREFIX) === 0) return false;
    if (at.pcieType === ExpType.ROOT_PORT || at.pcieType === ExpType.RC_END) return true;
  }
  return false;
}

function failure(code: 'EBUSY' | 'EINVAL', pdev: PciDev, reason: string): SystemError {
  return new SystemError(code, reason, { syscall: 'pci_enable_pasid', subject: pdev.name });
}
