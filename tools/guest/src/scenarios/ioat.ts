/**
 * An Intel I/OAT DMA engine. The kernel's own driver tests each channel before it offers it: it copies memory with the
 * engine and waits for the interrupt.
 */

import type { Device } from '../device.js';
import type { Guest } from '../guest.js';

/** Finds the driver and the channels that passed its test. */
export async function ioat(guest: Guest, device: Device): Promise<void> {
  const { address } = device;
  const sysfs = `/sys/bus/pci/devices/${address}`;
  await guest.step(device, 'ioatdma binds it', `readlink ${sysfs}/driver`, { expect: [/\/ioatdma$/m] });
  await guest.step(device, 'the driver offers the channels that passed its test', `ls ${sysfs}/dma`, {
    expect: [/^dma\d+chan\d+$/m],
  });
  await guest.step(device, 'the driver has no complaint', 'dmesg | grep ioatdma', {
    refuse: [/[Ss]elf-test|timed out|disabling|failed/],
  });
  await guest.step(device, 'interrupts of it have come', 'grep ioat /proc/interrupts', {
    expect: [/^ *\d+: +[1-9]\d* .*ioat/m],
  });
}
