/*
 * Devices get drivers and lose them. Each of it runs under the lock of the device, which whoever comes second waits
 * for: remove takes its time while the device is in use.
 */
import { isSystemError, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import { Undo } from '../undo.js';
import { DeferredProbe } from './deferred-probe.js';
import { type Device, deviceRecord } from './device.js';
import { announce } from './device-uevent.js';
import type { Driver } from './driver.js';

/**
 * How a probe ended. `rejected` is the driver's own answer, after which another driver may be tried; `failed` is an
 * error around it, which ends the search.
 */
type ProbeOutcome =
  | { readonly result: 'bound' }
  | { readonly result: 'rejected' | 'failed'; readonly error: SystemError };

/** Binds and unbinds. Source: drivers/base/dd.c */
export class Binder {
  readonly deferred: DeferredProbe;
  readonly #seams: Seams;

  constructor(seams: Seams) {
    this.#seams = seams;
    this.deferred = new DeferredProbe(seams, (dev) => this.tryAttach(dev));
  }

  /**
   * Whether a driver may be bound to a device.
   *
   * @throws EPROBE_DEFER, ... - the bus cannot tell
   * @source drivers/base/base.h driver_match_device()
   */
  match(drv: Driver, dev: Device): boolean {
    return drv.bus.options.match?.(dev, drv) ?? true;
  }

  /** Whether somebody may bind by hand. That the bus cannot tell is no obstacle. */
  mayBind(drv: Driver, dev: Device): boolean {
    try {
      return this.match(drv, dev);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      return true;
    }
  }

  /**
   * Looks for a driver among those of the bus, and stops at the first that takes the device.
   *
   * @returns whether the device has a driver now
   * @throws what was in the way of a driver that matches, other than its own refusal
   * @source drivers/base/dd.c device_attach()
   */
  async attach(dev: Device): Promise<boolean> {
    const { bus } = dev;
    if (!bus?.record) return false;
    using _held = await dev.lock.lock();
    if (deviceRecord(dev).dead) return false;
    if (dev.driver) return true;
    for (const drv of bus.record.drivers) {
      if (!this.#matchOrDefer(drv, dev)) continue;
      const outcome = await this.#probeOrDefer(drv, dev);
      if (outcome.result === 'bound') return true;
      if (outcome.result === 'failed') throw outcome.error;
    }
    return false;
  }

  /** As `attach`, for those who do not care how it ends. */
  async tryAttach(dev: Device): Promise<void> {
    try {
      await this.attach(dev);
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }

  /**
   * Offers a driver all devices of its bus that have none.
   *
   * @source drivers/base/dd.c driver_attach()
   */
  async attachDriver(drv: Driver): Promise<void> {
    for (const dev of drv.bus.record?.devices ?? []) {
      try {
        if (!this.#matchOrDefer(drv, dev)) continue;
      } catch (error) {
        if (!isSystemError(error)) throw error;
        this.#seams.log.debug(`Bus failed to match device: ${error.errno}`, dev.logName());
        continue;
      }
      await this.#locked(dev, () => this.#probeOrDefer(drv, dev));
    }
  }

  /**
   * Binds a driver to a device, whether or not they match.
   *
   * @throws EBUSY - the device has a driver
   * @throws ENODEV - the device is going
   * @throws EAGAIN - the driver wants to be asked later
   * @throws what the probe threw
   * @source drivers/base/dd.c device_driver_attach()
   */
  async driverAttach(drv: Driver, dev: Device): Promise<void> {
    const outcome = await this.#locked(dev, () => this.#probe(drv, dev));
    if (outcome.result === 'bound') return;
    if (isSystemError(outcome.error, 'EPROBE_DEFER')) {
      throw new SystemError('EAGAIN', outcome.error.reason, { cause: outcome.error });
    }
    throw outcome.error;
  }

  /**
   * Takes the driver off a device. Returns when its remove has, which may be long after.
   *
   * @param drv - when given: only this one
   * @source drivers/base/dd.c device_release_driver_internal()
   */
  async release(dev: Device, drv?: Driver): Promise<void> {
    await this.#locked(dev, async () => {
      if (!drv || dev.driver === drv) await this.#release(dev);
    });
  }

  /**
   * Takes a driver off all its devices, last first.
   *
   * @source drivers/base/dd.c driver_detach()
   */
  async detachDriver(drv: Driver): Promise<void> {
    for (let dev = drv.devices.at(-1); dev; dev = drv.devices.at(-1)) {
      dev.get();
      await this.release(dev, drv);
      dev.put();
    }
  }

  async #locked<T>(dev: Device, fn: () => Promise<T>): Promise<T> {
    using _parent = dev.bus?.options.needParentLock ? await dev.parent?.lock.lock() : undefined;
    using _held = await dev.lock.lock();
    return await fn();
  }

  #matchOrDefer(drv: Driver, dev: Device): boolean {
    try {
      return this.match(drv, dev);
    } catch (error) {
      if (isSystemError(error, 'EPROBE_DEFER')) this.deferred.add(dev);
      throw error;
    }
  }

  /** Source: drivers/base/dd.c driver_probe_device() */
  async #probeOrDefer(drv: Driver, dev: Device): Promise<ProbeOutcome> {
    const { triggers } = this.deferred;
    const outcome = await this.#probe(drv, dev);
    if (outcome.result !== 'bound' && isSystemError(outcome.error, 'EPROBE_DEFER')) {
      this.deferred.add(dev);
      if (triggers !== this.deferred.triggers) this.deferred.trigger();
    }
    return outcome;
  }

  /** Source: drivers/base/dd.c __driver_probe_device() */
  async #probe(drv: Driver, dev: Device): Promise<ProbeOutcome> {
    if (deviceRecord(dev).dead || !dev.registered) {
      return { result: 'failed', error: new SystemError('ENODEV', `device ${dev.name} is going`) };
    }
    if (dev.driver) {
      return { result: 'failed', error: new SystemError('EBUSY', `device ${dev.name} has driver ${dev.driver.name}`) };
    }
    let ownAnswer = false;
    try {
      await this.#reallyProbe(drv, dev, async () => {
        ownAnswer = true;
        await callProbe(drv, dev);
        ownAnswer = false;
      });
      return { result: 'bound' };
    } catch (error) {
      if (!isSystemError(error)) throw error;
      return { result: ownAnswer ? 'rejected' : 'failed', error };
    }
  }

  /** Source: drivers/base/dd.c really_probe() */
  async #reallyProbe(drv: Driver, dev: Device, probe: () => Promise<void>): Promise<void> {
    const { bus } = drv;
    const record = deviceRecord(dev);
    await using undo = new Undo();
    dev.driver = drv;
    undo.add(() => unbindCleanup(dev));
    await bus.options.dmaConfigure?.(dev, drv);
    undo.add(() => {
      bus.notify('driver-not-bound', dev);
      bus.options.dmaCleanup?.(dev);
    });
    bus.notify('bind-driver', dev);
    driverSysfsAdd(drv, dev);
    undo.add(() => driverSysfsRemove(drv, dev));
    await probe();
    undo.add(() => callRemove(drv, dev));
    dev.sysfs.addGroups(drv.options.devGroups ?? []);
    undo.keep();
    drv.record?.devices.add(dev);
    record.bound = true;
    this.deferred.remove(dev);
    this.deferred.trigger();
    bus.notify('bound-driver', dev);
    announce(dev, 'bind');
  }

  /** Source: drivers/base/dd.c __device_release_driver() */
  async #release(dev: Device): Promise<void> {
    const drv = dev.driver;
    if (!drv) return;
    const { bus } = drv;
    driverSysfsRemove(drv, dev);
    bus.notify('unbind-driver', dev);
    dev.sysfs.removeGroups(drv.options.devGroups ?? []);
    await dev.sysfs.drained();
    try {
      await callRemove(drv, dev);
    } finally {
      // A bug in remove surfaces, but does not keep the device from being unbound.
      bus.options.dmaCleanup?.(dev);
      unbindCleanup(dev);
      drv.record?.devices.delete(dev);
      deviceRecord(dev).bound = false;
      bus.notify('unbound-driver', dev);
      announce(dev, 'unbind');
    }
  }
}

/** Source: drivers/base/dd.c call_driver_probe() */
async function callProbe(drv: Driver, dev: Device): Promise<void> {
  const { log } = dev.host;
  try {
    if (drv.bus.options.probe) await drv.bus.options.probe(dev, drv);
    else await drv.options.probe?.(dev);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (error.code === 'EPROBE_DEFER') log.debug(`Driver ${drv.name} requests probe deferral`, dev.logName());
    else if (error.code === 'ENODEV' || error.code === 'ENXIO') {
      log.debug(`probe with driver ${drv.name} rejects match ${error.errno}`, dev.logName());
    } else log.err(`probe with driver ${drv.name} failed with error ${error.errno}`, dev.logName());
    throw error;
  }
}

/** A driver cannot refuse to give a device back. */
async function callRemove(drv: Driver, dev: Device): Promise<void> {
  try {
    if (drv.bus.options.remove) await drv.bus.options.remove(dev, drv);
    else await drv.options.remove?.(dev);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const text = `remove callback returned a non-zero value (${error.errno}). This will be ignored.`;
    dev.host.log.warnOn(true, `${dev.logName()}: ${text}`);
  }
}

function driverSysfsAdd(drv: Driver, dev: Device): void {
  const dir = drv.record?.sysfs;
  if (!dir) throw new SystemError('ENOENT', `driver ${drv.name} is not registered`);
  dir.addLink(dev.name, dev.sysfs);
  try {
    dev.sysfs.addLink('driver', dir);
  } catch (error) {
    dir.removeEntry(dev.name);
    throw error;
  }
}

function driverSysfsRemove(drv: Driver, dev: Device): void {
  drv.record?.sysfs.removeEntry(dev.name);
  dev.sysfs.removeEntry('driver');
}

/** Source: drivers/base/dd.c device_unbind_cleanup() */
function unbindCleanup(dev: Device): void {
  dev.driver = undefined;
  dev.drvdata?.clear(dev);
}
