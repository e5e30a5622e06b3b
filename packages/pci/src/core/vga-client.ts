/*
 * What a display adapter in VFIO decodes of the legacy VGA addresses: as little as possible when nobody may have them through it.
 */
import { isVga, VgaRsrc, vgaClientRegister, vgaClientUnregister, vgaSetLegacyDecoding } from '../bus/vga.js';
import type { PciCoreDevice } from './core-device.js';

const NORMAL = VgaRsrc.NORMAL_IO | VgaRsrc.NORMAL_MEM;
const LEGACY = VgaRsrc.LEGACY_IO | VgaRsrc.LEGACY_MEM;

/**
 * Makes a display adapter known to the arbiter.
 *
 * Differs: Linux first throws out drivers of the framebuffer that firmware has set up; there are none here.
 *
 * @throws ENODEV, ENOMEM - as `vgaClientRegister` says
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_vga_init()
 */
export function vgaInit(device: PciCoreDevice): void {
  const { pdev } = device;
  if (!isVga(pdev)) return;
  vgaClientRegister(pdev, (single) => setDecode(device, single));
  vgaSetLegacyDecoding(pdev, setDecode(device, false));
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_vga_uninit() */
export function vgaUninit({ pdev }: PciCoreDevice): void {
  if (!isVga(pdev)) return;
  vgaClientUnregister(pdev);
  vgaSetLegacyDecoding(pdev, NORMAL | LEGACY);
}

/**
 * What it decodes. The legacy addresses only if they are offered, if it is alone, or if it has no choice: another adapter below
 * the same bridge gets them by the same route.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_set_decode()
 */
function setDecode({ pdev, options }: PciCoreDevice, single: boolean): number {
  const { pciBus } = pdev;
  if (single || !options.disableVga || pciBus.isRoot) return NORMAL | LEGACY;
  // Legacy addresses are routed to a bridge and everything below it.
  const { subordinate } = pciBus;
  const shared = pciBus.domain.type.domains
    .filter(({ number }) => number === pciBus.domain.number)
    .flatMap(({ buses }) => [...buses.values()])
    .filter((bus) => !bus.isRoot && bus.number >= pciBus.number && bus.number <= subordinate)
    .some((bus) => bus.devices.some((other) => other !== pdev && isVga(other)));
  return shared ? NORMAL | LEGACY : NORMAL;
}
