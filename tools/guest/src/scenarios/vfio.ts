/**
 * Devices that the guest drives by VFIO, behind its own IOMMU: registers, interrupts, and DMA into memory of a process.
 */

import type { Device } from '../device.js';
import type { Guest } from '../guest.js';

/** QEMU's educational device. */
export async function edu(guest: Guest, device: Device): Promise<void> {
  await probed(guest, device, 'edu', "the guest's VFIO drives it: registers, MSI, DMA to and from memory", [
    /^ok: an MSI arrives/m,
    /^ok: 4096 bytes came back/m,
  ]);
}

/** The reference test device. */
export async function testdev(guest: Guest, device: Device): Promise<void> {
  await probed(
    guest,
    device,
    'testdev',
    "the guest's VFIO drives it: BARs, MSI-X, DMA through memory and by messages",
    [/^ok: the vector that is signalled arrives/m, /^ok: memory that was taken away is not read/m],
  );
}

/** Binds the guest's vfio-pci, and runs a part of the guest's program. */
async function probed(
  guest: Guest,
  device: Device,
  part: string,
  what: string,
  expect: readonly RegExp[],
): Promise<void> {
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
  await guest.step(device, what, `probe ${part} ${address}`, { expect, refuse: [/^FAILED/m] });
}
