/**
 * QEMU's educational device, driven by VFIO in the guest, behind the guest's IOMMU: registers, MSI, and DMA into memory
 * of a process.
 */

import type { Device } from '../device.js';
import type { Guest } from '../guest.js';

/** Binds vfio-pci and runs the guest's program. */
export async function edu(guest: Guest, device: Device): Promise<void> {
  if (!guest.probe) return;
  const { address } = device;
  const sysfs = `/sys/bus/pci/devices/${address}`;
  const binding = [
    'modprobe vfio-pci',
    'modprobe vfio_iommu_type1',
    `echo vfio-pci > ${sysfs}/driver_override`,
    `echo ${address} > /sys/bus/pci/drivers_probe`,
    `readlink ${sysfs}/driver`,
  ];
  await guest.step(device, "the guest's vfio-pci binds it", binding.join(' && '), { expect: [/\/vfio-pci$/m] });
  await guest.step(
    device,
    "the guest's VFIO drives it: registers, MSI, DMA to and from memory",
    `probe edu ${address}`,
    {
      expect: [/^ok: an MSI arrives/m, /^ok: 4096 bytes came back/m],
    },
  );
}
