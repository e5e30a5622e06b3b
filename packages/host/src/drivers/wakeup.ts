/*
 * What could wake the machine up: sources that count their events, in class `wakeup`, and the devices that administrators may
 * make to be one. Nothing here sleeps, so all counters stay at 0.
 */
import { isSystemError, SystemError } from '../errors.js';
import { IdAllocator } from '../sync/ids.js';
import type { Attribute, AttributeGroup } from '../sysfs/attribute.js';
import { sysfsStreq } from '../sysfs/parse.js';
import { Undo } from '../undo.js';
import { DeviceClass } from './class.js';
import type { DriverCoreHost } from './core-host.js';
import { Device } from './device.js';
import type { DeviceCore } from './device-core.js';

/** Counters of a source. Source: drivers/base/power/wakeup_stats.c */
const sourceCounters = [
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

/** What `power/` shows of a device's source, while it is one. Source: drivers/base/power/sysfs.c */
const deviceCounters = [
  'wakeup_count',
  'wakeup_active_count',
  'wakeup_abort_count',
  'wakeup_expire_count',
  'wakeup_active',
  'wakeup_total_time_ms',
  'wakeup_max_time_ms',
  'wakeup_last_time_ms',
] as const;

const MAX_SOURCE_ID = 0x7fff_ffff;

/** The sources of a host. Source: drivers/base/power/wakeup.c, drivers/base/power/wakeup_stats.c */
export class WakeupSources {
  readonly class: DeviceClass;
  readonly #host: DriverCoreHost;
  readonly #devices: DeviceCore;
  readonly #ids: IdAllocator;

  /** @throws ENOMEM */
  constructor(host: DriverCoreHost, devices: DeviceCore) {
    this.#host = host;
    this.#devices = devices;
    this.#ids = new IdAllocator(host, 'wakeup_ida', MAX_SOURCE_ID);
    this.class = new DeviceClass(host, 'wakeup');
  }

  /**
   * Makes a source.
   *
   * @param parent - it is in the directory `wakeup/` of this device, or below /sys/devices/virtual
   * @param name - what the events are of, for its file `name`
   * @returns its device, which `unregister` ends
   * @throws ENOMEM, ENOSPC
   * @source drivers/base/power/wakeup.c wakeup_source_register()
   */
  async register(parent: Device | undefined, name: string): Promise<Device> {
    this.#host.faults.check('wakeup_source_create:ws');
    const id = this.#ids.alloc();
    const source = new Device({
      name: `wakeup${id}`,
      ...(parent ? { parent } : {}),
      class: this.class,
      noPower: true,
      groups: [sourceGroup(name)],
      release: () => this.#ids.free(id),
    });
    await using undo = new Undo();
    this.#devices.init(source);
    undo.add(() => source.put());
    await this.#devices.add(source);
    undo.keep();
    return source;
  }

  /** Source: drivers/base/power/wakeup.c wakeup_source_unregister() */
  async unregister(source: Device): Promise<void> {
    await this.#devices.unregister(source);
  }
}

/** Whether a device that can wake the machine up may do so; at first it may not. Source: include/linux/pm.h struct dev_pm_info */
export class DeviceWakeup {
  readonly #sources: WakeupSources;
  #source: Device | undefined;

  constructor(sources: WakeupSources) {
    this.#sources = sources;
  }

  /** Whether it may. Source: include/linux/pm_wakeup.h device_may_wakeup() */
  get enabled(): boolean {
    return this.#source !== undefined;
  }

  /**
   * From now on it may: it becomes a source.
   *
   * @throws EEXIST - it is one already
   * @throws ENOMEM
   * @source drivers/base/power/wakeup.c device_wakeup_enable()
   */
  async enable(dev: Device): Promise<void> {
    const source = await this.#sources.register(dev, dev.name);
    if (!this.#source && dev.registered) {
      this.#source = source;
      return;
    }
    // Somebody else was faster, or has deleted the device.
    await this.#sources.unregister(source);
    throw new SystemError('EEXIST', 'it may wake the machine already', { subject: dev.name });
  }

  /** It may not any more. Source: drivers/base/power/wakeup.c device_wakeup_disable() */
  async disable(): Promise<void> {
    const source = this.#source;
    this.#source = undefined;
    if (source) await this.#sources.unregister(source);
  }
}

/** Names of the files that such a device has in `power/`. */
export const wakeupFiles: readonly string[] = ['wakeup', ...deviceCounters];

/** Those files. Source: drivers/base/power/sysfs.c pm_wakeup_attr_group */
export function wakeupAttributes(dev: Device, wakeup: DeviceWakeup): Attribute[] {
  const store = async (text: string) => {
    const enable = sysfsStreq(text, 'enabled');
    if (!enable && !sysfsStreq(text, 'disabled')) throw new SystemError('EINVAL', 'neither enabled nor disabled');
    try {
      await (enable ? wakeup.enable(dev) : wakeup.disable());
    } catch (error) {
      // Who writes is not told.
      if (!isSystemError(error)) throw error;
    }
  };
  const show = () => `${wakeup.enabled ? 'enabled' : 'disabled'}\n`;
  const count = () => (wakeup.enabled ? '0\n' : '\n');
  return [
    { name: 'wakeup', mode: 0o644, show, store },
    ...deviceCounters.map((name) => ({ name, mode: 0o444, show: count })),
  ];
}

function sourceGroup(name: string): AttributeGroup {
  const counters = sourceCounters.map((counter) => ({ name: counter, mode: 0o444, show: () => '0\n' }));
  return { attributes: [{ name: 'name', mode: 0o444, show: () => `${name}\n` }, ...counters] };
}
