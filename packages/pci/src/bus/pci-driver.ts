/*
 * PCI drivers: the table of what they drive, the ids that administrators add to it, and the match.
 */
import { Driver, isSystemError, type Module, SystemError } from '@vfio/host';
import type { PciBusType } from './bus-type.js';
import { iovRemove } from './iov.js';
import { isPciDev, type PciDev } from './pci-dev.js';
import { getAwake } from './power.js';
import { PowerState } from './power-state.js';

/** Matches any value. Source: include/linux/mod_devicetable.h PCI_ANY_ID */
export const PCI_ANY_ID = 0xffff_ffff;

/** What a driver drives. Source: include/linux/mod_devicetable.h struct pci_device_id */
export interface PciDeviceId {
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  /** 24 bits, compared under `classMask`. */
  readonly class: number;
  readonly classMask: number;
  /** It matches only a device whose driver_override names the driver. */
  readonly overrideOnly?: boolean;
}

/** How a driver answers to an error. Source: include/linux/pci.h pci_ers_result_t */
export type ErsResult = 'none' | 'can-recover' | 'need-reset' | 'disconnect' | 'recovered' | 'no-aer-driver';

/** The state of a function's link after an error. Source: include/linux/pci.h pci_channel_state_t */
export type ChannelState = 'normal' | 'frozen' | 'perm-failure';

/** What a driver is told about errors and resets. Source: include/linux/pci.h struct pci_error_handlers */
export interface PciErrorHandlers {
  errorDetected?(pdev: PciDev, state: ChannelState): ErsResult | Promise<ErsResult>;
  mmioEnabled?(pdev: PciDev): ErsResult | Promise<ErsResult>;
  slotReset?(pdev: PciDev): ErsResult | Promise<ErsResult>;
  resetPrepare?(pdev: PciDev): void | Promise<void>;
  resetDone?(pdev: PciDev): void | Promise<void>;
  resume?(pdev: PciDev): void | Promise<void>;
}

/** What a PCI driver is made of. */
export interface PciDriverOptions {
  readonly name: string;
  readonly bus: PciBusType;
  readonly module?: Module;
  readonly idTable?: readonly PciDeviceId[];
  /** @param id - the entry that matched */
  probe(pdev: PciDev, id: PciDeviceId): void | Promise<void>;
  remove?(pdev: PciDev): void | Promise<void>;
  /**
   * Somebody writes `sriov_numvfs`.
   *
   * @returns how many virtual functions there are now
   */
  sriovConfigure?(pdev: PciDev, count: number): number | Promise<number>;
  readonly errHandler?: PciErrorHandlers;
  /** DMA is for others (`driver_managed_dma`): the bus claims nothing. */
  readonly managesDma?: boolean;
}

/** A PCI driver. Source: include/linux/pci.h struct pci_driver */
export class PciDriver extends Driver {
  readonly pci: PciDriverOptions;
  /** @internal what `new_id` has added, in that order */
  readonly dynids: PciDeviceId[] = [];

  constructor(options: PciDriverOptions) {
    const { name, bus, module, managesDma = false } = options;
    super({ name, bus, managesDma, ...(module ? { module } : {}) });
    this.pci = options;
  }
}

/** Makes a driver known, with `new_id` and `remove_id`. Source: drivers/pci/pci-driver.c __pci_register_driver() */
export async function registerDriver(driver: PciDriver): Promise<void> {
  await driver.pci.bus.host.devices.driverRegister(driver);
}

/** Takes it back. Source: drivers/pci/pci-driver.c pci_unregister_driver() */
export async function unregisterDriver(driver: PciDriver): Promise<void> {
  await driver.pci.bus.host.devices.driverUnregister(driver);
  driver.dynids.length = 0;
}

/**
 * Whether a driver takes a device of some ids, if nobody forces another on it.
 *
 * @source drivers/pci/pci-driver.c new_id_store()
 */
export function takesDevice(driver: PciDriver, id: PciDeviceId): boolean {
  const ids = { ...id, deviceId: id.device, subsystemVendor: id.subvendor, subsystemDevice: id.subdevice };
  return lookUp(driver, { ...ids, classCode: id.class, driverOverride: undefined }) !== undefined;
}

/**
 * Adds an id to a driver that runs, and offers it devices. It may have the same already.
 *
 * @throws ENOMEM
 * @source drivers/pci/pci-driver.c pci_add_dynid()
 */
export async function addDynid(driver: PciDriver, id: PciDeviceId): Promise<void> {
  const { bus } = driver.pci;
  const { host } = bus;
  host.faults.check('pci_add_dynid:dynid');
  driver.dynids.push(id);
  for (const dev of bus.devices) {
    if (dev.driver || !isPciDev(dev) || !matchDevice(driver, dev)) continue;
    try {
      await host.devices.attachDriver(dev, driver);
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }
}

/**
 * Takes an id away again; devices that are bound because of it stay so.
 *
 * @throws ENODEV - there is none like it
 * @source drivers/pci/pci-driver.c remove_id_store()
 */
export function removeDynid(driver: PciDriver, id: PciDeviceId): void {
  const at = driver.dynids.findIndex(
    (known) =>
      known.vendor === id.vendor &&
      known.device === id.device &&
      (id.subvendor === PCI_ANY_ID || known.subvendor === id.subvendor) &&
      (id.subdevice === PCI_ANY_ID || known.subdevice === id.subdevice) &&
      ((known.class ^ id.class) & id.classMask) === 0,
  );
  if (at < 0) throw new SystemError('ENODEV', `driver ${driver.name} has no such id`, { syscall: 'remove_id_store' });
  driver.dynids.splice(at, 1);
}

/**
 * Why a driver may have a function: the id that fits.
 *
 * @returns undefined - it may not
 * @source drivers/pci/pci-driver.c pci_bus_match()
 */
export function matchDevice(driver: PciDriver, pdev: PciDev): PciDeviceId | undefined {
  return pdev.matchDriver ? lookUp(driver, pdev) : undefined;
}

/** What the match looks at. */
type MatchTarget = Pick<
  PciDev,
  'vendor' | 'deviceId' | 'subsystemVendor' | 'subsystemDevice' | 'classCode' | 'driverOverride'
>;

/** Source: drivers/pci/pci-driver.c pci_match_device() */
function lookUp(driver: PciDriver, target: MatchTarget): PciDeviceId | undefined {
  const { driverOverride } = target;
  if (driverOverride !== undefined && driverOverride !== driver.name) return undefined;
  const overridden = driverOverride !== undefined;
  const fits = (id: PciDeviceId) => matchOneDevice(id, target);
  const found =
    driver.dynids.find(fits) ?? driver.pci.idTable?.find((id) => fits(id) && (overridden || !id.overrideOnly));
  return found ?? (overridden ? anyDevice : undefined);
}

/** Source: drivers/pci/pci.h pci_match_one_device() */
function matchOneDevice(id: PciDeviceId, target: MatchTarget): boolean {
  const same = (wanted: number, has: number) => wanted === PCI_ANY_ID || wanted === has;
  return (
    same(id.vendor, target.vendor) &&
    same(id.device, target.deviceId) &&
    same(id.subvendor, target.subsystemVendor) &&
    same(id.subdevice, target.subsystemDevice) &&
    ((id.class ^ target.classCode) & id.classMask) === 0
  );
}

/** What a driver gets that somebody forces on a device. Source: drivers/pci/pci-driver.c pci_device_id_any */
const anyDevice: PciDeviceId = {
  vendor: PCI_ANY_ID,
  device: PCI_ANY_ID,
  subvendor: PCI_ANY_ID,
  subdevice: PCI_ANY_ID,
  class: 0,
  classMask: 0,
};

/**
 * A driver gets a function. Virtual functions are only probed if their physical function says so, or an administrator.
 *
 * @throws ENODEV - it may not have it
 * @throws what the driver's probe says
 * @source drivers/pci/pci-driver.c pci_device_probe(), pci_device_can_probe()
 */
export async function probeDevice(pdev: PciDev, driver: PciDriver): Promise<void> {
  const offered = !pdev.isVirtfn || pdev.physfn?.sriov?.driversAutoprobe !== false || pdev.driverOverride !== undefined;
  const id = offered ? matchDevice(driver, pdev) : undefined;
  if (!id) throw new SystemError('ENODEV', `not for driver ${driver.name}`, { subject: pdev.name });
  // Whoever does not want to keep it awake gives this user back in its probe.
  await getAwake(pdev);
  try {
    await driver.pci.probe(pdev, id);
  } catch (error) {
    await pdev.pm.put();
    throw error;
  }
}

/** A driver gives a function back. Source: drivers/pci/pci-driver.c pci_device_remove() */
export async function removeDevice(pdev: PciDev, driver: PciDriver): Promise<void> {
  await getAwake(pdev);
  await driver.pci.remove?.(pdev);
  pdev.pm.putNoidle();
  pdev.runtimeOps = undefined;
  iovRemove(pdev);
  await pdev.pm.put();
  // What the driver has done to it, nobody knows.
  if (pdev.currentState === PowerState.D0) pdev.currentState = 'unknown';
}

/** The driver of a function, if it is a PCI driver. */
export function pciDriverOf(pdev: PciDev): PciDriver | undefined {
  return pdev.driver instanceof PciDriver ? pdev.driver : undefined;
}
