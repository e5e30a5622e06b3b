/*
 * Slots of /sys/bus/pci/slots: the functions of one device number, that somebody can take out, or reset, together.
 */
import { SystemError } from '@vfio/host';
import { type HotplugSlot, type PciBus, PciSlot } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';
import { slotOf } from './regs.js';

/** The number of a slot that has all functions of its bus, whatever their numbers. Source: include/linux/pci.h PCI_SLOT_ALL_DEVICES */
export const SLOT_ALL_DEVICES = 0xfe;

/**
 * A hotplug driver looks after a slot.
 *
 * @param number - of its device, or `SLOT_ALL_DEVICES`
 * @param name - in /sys/bus/pci/slots; a number is added when it is taken
 * @throws ENOMEM
 * @source drivers/pci/slot.c pci_create_slot()
 */
export function createSlot(bus: PciBus, number: number, name: string, hotplug: HotplugSlot): PciSlot {
  const { type, number: domain } = bus.domain;
  const dir = type.slotsDir;
  let unique = name;
  for (let suffix = 1; dir.lookup(unique); suffix++) unique = `${name}-${suffix}`;
  const slot = new PciSlot(bus, number, unique, hotplug);
  const own = dir.mkdir(unique);
  try {
    const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
    const shown = number === SLOT_ALL_DEVICES ? 0 : number;
    const address = `${hex(domain, 4)}:${hex(bus.number, 2)}:${hex(shown, 2)}`;
    const present = () => slotDevices(slot).length > 0;
    const { switchSlot } = hotplug;
    own.addFile({ name: 'address', mode: 0o444, show: () => `${address}\n` });
    own.addFile({ name: 'adapter', mode: 0o444, show: () => `${Number(present())}\n` });
    own.addFile({
      name: 'power',
      mode: 0o644,
      show: () => `${Number(present())}\n`,
      store: async (text) => {
        if (!switchSlot) throw new SystemError('EINVAL', `slot ${unique} can not be switched`);
        await switchSlot(powerOf(text));
      },
    });
  } catch (error) {
    own.remove();
    throw error;
  }
  bus.slots.push(slot);
  for (const pdev of bus.devices) if (isIn(slot, pdev)) pdev.slot = slot;
  return slot;
}

/**
 * Whether a slot shall have power. A text that begins with no digit means 0.
 *
 * @throws EINVAL - something else than 0 or 1, as far as a byte can tell
 * @source drivers/pci/hotplug/pci_hotplug_core.c power_write_file()
 */
function powerOf(text: string): boolean {
  const power = BigInt.asUintN(8, BigInt(/^[0-9]+/.exec(text)?.[0] ?? 0));
  if (power > 1n) throw new SystemError('EINVAL', `no power of ${power}`, { syscall: 'power_write_file' });
  return power === 1n;
}

/** The functions in a slot. */
export function slotDevices(slot: PciSlot): PciDev[] {
  return slot.bus.devices.filter((pdev) => pdev.slot === slot);
}

/** Nobody looks after it any more. Source: drivers/pci/slot.c pci_destroy_slot() */
export function destroySlot(slot: PciSlot): void {
  const { bus } = slot;
  const at = bus.slots.indexOf(slot);
  if (at < 0) return;
  bus.slots.splice(at, 1);
  for (const pdev of bus.devices) if (pdev.slot === slot) pdev.slot = undefined;
  bus.domain.type.slotsDir.removeEntry(slot.name);
}

/** A function comes to a slot that somebody looks after. Source: drivers/pci/slot.c pci_dev_assign_slot() */
export function assignSlot(pdev: PciDev): void {
  pdev.slot = pdev.pciBus.slots.find((slot) => isIn(slot, pdev));
}

function isIn({ number }: PciSlot, { devfn }: PciDev): boolean {
  return number === SLOT_ALL_DEVICES || number === slotOf(devfn);
}
