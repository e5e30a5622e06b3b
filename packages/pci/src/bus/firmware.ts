/*
 * What firmware with ACPI adds to a function: the object that describes it, through which it could wake the machine up. Only
 * there on platforms whose firmware describes slots.
 */
import { type AttributeGroup, Device, DeviceClass, type Host, type SysfsDir, Undo } from '@vfio/host';
import type { PciDev } from './pci-dev.js';
import { funcOf, slotOf } from './regs.js';

/** Where the objects of a host bridge are, below /sys/devices. */
const BRIDGE_PATH = ['LNXSYSTM:00', 'LNXSYBUS:00', 'PNP0A08:00'] as const;

/** What a source of wakeups has counted; nothing here sleeps. Source: drivers/base/power/wakeup_stats.c */
const counters = [
  'active_count',
  'event_count',
  'wakeup_count',
  'expire_count',
  'active_time_ms',
  'total_time_ms',
  'max_time_ms',
  'last_change_ms',
  'prevent_suspend_time_ms',
] as const;

/** The objects of a host's firmware that describe functions. */
export class Firmware {
  readonly #host: Host;
  readonly #wakeupClass: DeviceClass;
  readonly #dir: SysfsDir;
  readonly #objects = new Map<PciDev, { readonly object: SysfsDir; readonly wakeup: Device }>();
  #nextWakeup = 0;
  #nextObject = 0;

  /** @throws EEXIST, ENOMEM */
  constructor(host: Host) {
    this.#host = host;
    const { devices } = host.sysfs;
    try {
      let dir = devices;
      for (const name of BRIDGE_PATH) dir = dir.mkdir(name);
      this.#dir = dir;
      this.#wakeupClass = new DeviceClass(host, 'wakeup');
    } catch (error) {
      devices.removeEntry(BRIDGE_PATH[0]);
      throw error;
    }
  }

  /**
   * Describes a function that has been added: `firmware_node`, `wakeup/`, and a note that it waits for nobody, which goes with
   * the first driver.
   *
   * @throws ENOMEM
   * @source drivers/acpi/glue.c acpi_bind_one(), drivers/pci/pci-acpi.c pci_acpi_setup()
   */
  async add(pdev: PciDev): Promise<void> {
    const { devices } = this.#host;
    await using undo = new Undo();
    const object = this.#dir.mkdir(`device:${(this.#nextObject++).toString(16).padStart(2, '0')}`);
    undo.add(() => object.remove());
    object.addLink('physical_node', pdev.sysfs);
    object.addFile({ name: 'adr', mode: 0o444, show: () => `${address(pdev)}\n` });
    pdev.sysfs.addLink('firmware_node', object);
    undo.add(() => pdev.sysfs.removeEntry('firmware_node'));
    pdev.sysfs.addFile({ name: 'waiting_for_supplier', mode: 0o444, show: () => '0\n' });
    undo.add(() => pdev.sysfs.removeEntry('waiting_for_supplier'));
    const groups = [wakeupGroup(pdev.name)];
    const name = `wakeup${this.#nextWakeup++}`;
    const wakeup = new Device({ name, parent: pdev, class: this.#wakeupClass, noPower: true, groups });
    devices.init(wakeup);
    undo.add(() => wakeup.put());
    await devices.add(wakeup);
    undo.keep();
    this.#objects.set(pdev, { object, wakeup });
  }

  /** Takes that back, before the function is deleted. */
  async remove(pdev: PciDev): Promise<void> {
    const known = this.#objects.get(pdev);
    if (!known) return;
    this.#objects.delete(pdev);
    await this.#host.devices.unregister(known.wakeup);
    pdev.sysfs.removeEntry('waiting_for_supplier');
    pdev.sysfs.removeEntry('firmware_node');
    known.object.remove();
  }

  /** A driver has a function: whoever that waited for is there. Source: drivers/base/core.c device_links_driver_bound() */
  bound(pdev: PciDev): void {
    if (this.#objects.has(pdev)) pdev.sysfs.removeEntry('waiting_for_supplier');
  }

  /** The machine ends. */
  async destroy(): Promise<void> {
    this.#host.sysfs.devices.removeEntry(BRIDGE_PATH[0]);
    await this.#wakeupClass.destroy();
  }
}

/** Device and function, as ACPI has them in one number. */
function address(pdev: PciDev): string {
  return `0x${((slotOf(pdev.devfn) << 16) | funcOf(pdev.devfn)).toString(16).padStart(8, '0')}`;
}

function wakeupGroup(name: string): AttributeGroup {
  const values = counters.map((counter) => ({ name: counter, mode: 0o444, show: () => '0\n' }));
  return { attributes: [{ name: 'name', mode: 0o444, show: () => `${name}\n` }, ...values] };
}
