/*
 * What a virtual function and its physical one have to do with each other while both are in VFIO: the secret without which nobody
 * opens one of them while the other is somebody's, and the notice that a new virtual function belongs to the same driver.
 */
import type { FeatureCall } from '@vfio/core';
import type { BusEvent, Device } from '@vfio/host';
import { getDrvdata } from '../bus/drvdata.js';
import { isPciDev, type PciDev } from '../bus/pci-dev.js';
import type { PciCoreDevice } from './core-device.js';
import { isPciCoreDevice } from './is-core-device.js';

/** Bytes of a token. */
export const TOKEN_SIZE = 16;

/**
 * The token of a physical function.
 *
 * @source include/linux/vfio_pci_core.h struct vfio_pci_vf_token
 */
export class VfToken {
  /** Nobody knows it, until somebody sets it. */
  uuid: Uint8Array = crypto.getRandomValues(new Uint8Array(TOKEN_SIZE));
  /** Virtual functions that are open. */
  users = 0;
  /** Hears of new functions. */
  readonly #watch: Disposable;

  constructor(watch: Disposable) {
    this.#watch = watch;
  }

  /** Whether somebody knows it. */
  equals(uuid: Uint8Array): boolean {
    return uuid.length === TOKEN_SIZE && this.uuid.every((byte, at) => byte === uuid[at]);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}

/**
 * Connects a virtual function with its physical one, or gives a physical one its token.
 *
 * @throws ENOMEM
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_vf_init()
 */
export function vfInit(device: PciCoreDevice): void {
  const { pdev } = device;
  if (pdev.isVirtfn) {
    const pf = pdev.physfn && getDrvdata(pdev.physfn);
    // Only one whose virtual functions this driver made; others have nothing to say here.
    if (isPciCoreDevice(pf) && pf.sriovListed) device.sriovPfCoreDev = pf;
    return;
  }
  if (!pdev.isPhysfn) return;
  pdev.pciHost.faults.check('vfio_pci_vf_init:token');
  device.vfToken = new VfToken(pdev.pciBus.domain.type.subscribe((event, dev) => notice(device, event, dev)));
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_vf_uninit() */
export function vfUninit(device: PciCoreDevice): void {
  const token = device.vfToken;
  if (!token) return;
  token[Symbol.dispose]();
  device.pdev.pciHost.log.warnOn(token.users > 0, `${device.pdev.name}: virtual functions are open`);
  device.vfToken = undefined;
}

/**
 * New virtual functions are for the same driver, unless an administrator decides otherwise.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_bus_notifier()
 */
function notice(device: PciCoreDevice, event: BusEvent, dev: Device): void {
  const { pdev, driverName } = device;
  const vf = isVf(dev, device) ? dev : undefined;
  if (!vf) return;
  const { log } = pdev.pciHost;
  if (event === 'add-device') {
    log.info(`Captured SR-IOV VF ${vf.name} driver_override`, pdev.logName());
    vf.driverOverride = driverName;
  } else if (event === 'bound-driver' && vf.driver && vf.driver !== pdev.driver) {
    const own = pdev.driver?.name ?? '(none)';
    log.warn(`VF ${vf.name} bound to driver ${vf.driver.name} while PF bound to driver ${own}`, pdev.logName());
  }
}

function isVf(dev: Device, { pdev }: PciCoreDevice): dev is PciDev {
  return isPciDev(dev) && dev.isVirtfn && dev.physfn === pdev;
}

/**
 * VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: sets the token, whoever uses it.
 *
 * @throws ENOTTY - not a physical function
 * @throws EINVAL, EFAULT
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_feature_token()
 */
export function featureToken({ vfToken }: PciCoreDevice, feature: FeatureCall): number {
  if (!vfToken) throw feature.error('ENOTTY', 'not a physical function');
  if (!feature.check('set', TOKEN_SIZE)) return 0;
  vfToken.uuid = Uint8Array.from(feature.copyIn(TOKEN_SIZE));
  return 0;
}
