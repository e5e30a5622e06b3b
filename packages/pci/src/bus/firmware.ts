/*
 * What firmware with ACPI adds to functions: an object that describes each, through which it could wake the machine up, and a
 * note on whether it waits for others. Only there on platforms whose firmware describes slots.
 */
import { type Device, type Host, type SysfsDir, Undo } from '@vfio/host';
import type { PciDev } from './pci-dev.js';
import type { PciDomain } from './pci-domain.js';
import { funcOf, slotOf } from './regs.js';

/** Where the objects of host bridges are, below /sys/devices. */
const SYSTEM = 'LNXSYSTM:00';
const SYSTEM_BUS = 'LNXSYBUS:00';
const HOST_BRIDGE = 'PNP0A08';

/** A device and its object. */
interface Companion {
  readonly object: SysfsDir;
  readonly wakeup: Device;
}

/** The objects of a host's firmware that describe host bridges and functions. */
export class Firmware {
  readonly #host: Host;
  readonly #dir: SysfsDir;
  readonly #companions = new Map<Device, Companion>();
  /** Objects of functions by that of their bridge and their address; they are there when the function is not. */
  readonly #objects = new Map<SysfsDir, Map<string, SysfsDir>>();
  #nextBridge = 0;
  #nextObject = 0;

  /** @throws EEXIST, ENOMEM */
  constructor(host: Host) {
    this.#host = host;
    const system = host.sysfs.devices.mkdir(SYSTEM);
    try {
      this.#dir = system.mkdir(SYSTEM_BUS);
    } catch (error) {
      system.remove();
      throw error;
    }
  }

  /**
   * Describes a host bridge that has been added.
   *
   * @throws ENOMEM
   * @source drivers/acpi/pci_root.c acpi_pci_root_add()
   */
  async addRoot(domain: PciDomain): Promise<void> {
    await using undo = new Undo();
    const object = this.#dir.mkdir(`${HOST_BRIDGE}:${hex(this.#nextBridge++)}`);
    undo.add(() => object.remove());
    // Events of the bridge are those of the bus below it: no device is behind them.
    await this.#bind(domain.bridge, object, undefined);
    undo.keep();
  }

  /** Takes that back, with the objects of all functions below. */
  async removeRoot({ bridge }: PciDomain): Promise<void> {
    const object = this.#companions.get(bridge)?.object;
    await this.#unbind(bridge);
    object?.remove();
    for (const parent of [...this.#objects.keys()]) if (parent.removed) this.#objects.delete(parent);
  }

  /**
   * Describes a function that has been added: `firmware_node`, `wakeup/`, and a note that it waits for nobody, which goes with
   * the first driver.
   *
   * @throws ENOMEM
   * @source drivers/pci/pci-acpi.c acpi_pci_find_companion(), pci_acpi_setup()
   */
  async add(pdev: PciDev): Promise<void> {
    const above = this.#companions.get(pdev.pciBus.self ?? pdev.pciBus.domain.bridge);
    if (above) await this.#bind(pdev, this.#objectOf(above.object, pdev), pdev);
  }

  /** Takes that back, before the function is deleted. */
  async remove(pdev: PciDev): Promise<void> {
    await this.#unbind(pdev);
  }

  /** A driver has a function: whoever that waited for is there. Source: drivers/base/core.c device_links_driver_bound() */
  bound(pdev: PciDev): void {
    if (this.#companions.has(pdev)) pdev.sysfs.removeEntry('waiting_for_supplier');
  }

  /** The machine ends. */
  destroy(): void {
    this.#host.sysfs.devices.removeEntry(SYSTEM);
  }

  /** Links a device and its object, which events of `source` come through. Source: drivers/acpi/glue.c acpi_bind_one() */
  async #bind(dev: Device, object: SysfsDir, source: Device | undefined): Promise<void> {
    await using undo = new Undo();
    object.addLink('physical_node', dev.sysfs);
    undo.add(() => object.removeEntry('physical_node'));
    dev.sysfs.addLink('firmware_node', object);
    undo.add(() => dev.sysfs.removeEntry('firmware_node'));
    dev.sysfs.addFile({ name: 'waiting_for_supplier', mode: 0o444, show: () => '0\n' });
    undo.add(() => dev.sysfs.removeEntry('waiting_for_supplier'));
    const wakeup = await this.#host.devices.wakeupSources.register(source, object.name);
    undo.keep();
    this.#companions.set(dev, { object, wakeup });
  }

  /** Source: drivers/acpi/glue.c acpi_unbind_one() */
  async #unbind(dev: Device): Promise<void> {
    const known = this.#companions.get(dev);
    if (!known) return;
    this.#companions.delete(dev);
    await this.#host.devices.wakeupSources.unregister(known.wakeup);
    dev.sysfs.removeEntry('waiting_for_supplier');
    dev.sysfs.removeEntry('firmware_node');
    known.object.removeEntry('physical_node');
  }

  #objectOf(parent: SysfsDir, pdev: PciDev): SysfsDir {
    const siblings = this.#objects.get(parent) ?? new Map<string, SysfsDir>();
    const address = addressOf(pdev);
    const known = siblings.get(address);
    if (known) return known;
    const object = parent.mkdir(`device:${hex(this.#nextObject)}`);
    try {
      object.addFile({ name: 'adr', mode: 0o444, show: () => `${address}\n` });
    } catch (error) {
      object.remove();
      throw error;
    }
    this.#nextObject++;
    this.#objects.set(parent, siblings.set(address, object));
    return object;
  }
}

/** Device and function, as ACPI has them in one number. */
function addressOf({ devfn }: PciDev): string {
  return `0x${((slotOf(devfn) << 16) | funcOf(devfn)).toString(16).padStart(8, '0')}`;
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}
