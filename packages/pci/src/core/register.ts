/*
 * From a function that a driver was given to a device of VFIO, and back.
 */
import {
  assignDeviceSet,
  MigrationFlag,
  registerGroupDev,
  type SetId,
  type UnregisterOptions,
  unregisterGroupDev,
} from '@vfio/core';
import { Undo } from '@vfio/host';
import { readConfigWord } from '../bus/config.js';
import { getDrvdata } from '../bus/drvdata.js';
import { numVf } from '../bus/iov.js';
import { PowerState } from '../bus/power-state.js';
import { HeaderType, Pm } from '../bus/regs.js';
import { probeResetSlot } from '../bus/reset.js';
import type { PciCoreDevice } from './core-device.js';
import { debugfsInit } from './debugfs.js';
import { failure } from './pci-failure.js';
import { runtimeResume, runtimeSuspend, trySetPowerState } from './power.js';
import { sriovConfigure } from './sriov.js';
import { vfInit, vfUninit } from './vf-token.js';
import { vgaInit, vgaUninit } from './vga-client.js';

/**
 * Registers a device: the last step of a driver's probe. The function's driver data is the device already.
 *
 * @throws EINVAL - the driver data is something else; no name; a bridge; callbacks of migration or logging are missing
 * @throws EBUSY - the function has virtual ones
 * @throws as `registerGroupDev`, and those of its steps; all is as before then
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_register_device()
 */
export async function registerDevice(device: PciCoreDevice): Promise<void> {
  assertComplete(device);
  const { pdev, options } = device;
  await using undo = new Undo();
  await assignDeviceSet(device, deviceSetKey(device));
  vfInit(device);
  undo.add(() => vfUninit(device));
  vgaInit(device);
  undo.add(() => vgaUninit(device));
  device.needsPmRestore = losesStateInD3(device);
  // Nobody knows in which state the last driver has left it; from there, only D0 can be reached.
  await trySetPowerState(device, PowerState.D0);
  pdev.runtimeOps = {
    suspend: async () => await runtimeSuspend(device),
    resume: async () => await runtimeResume(device),
  };
  await pdev.pm.allow();
  if (!options.disableIdleD3) await pdev.pm.put();
  undo.add(async () => await stopPm(device));
  await registerGroupDev(device);
  undo.keep();
  debugfsInit(device);
}

/**
 * Takes a device out of VFIO, and waits for its last user.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_unregister_device()
 */
export async function unregisterDevice(device: PciCoreDevice, options?: UnregisterOptions): Promise<void> {
  await sriovConfigure(device, 0);
  await unregisterGroupDev(device, options);
  vfUninit(device);
  vgaUninit(device);
  await stopPm(device);
}

/** The bus, which let the driver have the function awake, gets it back so. */
async function stopPm({ pdev, options }: PciCoreDevice): Promise<void> {
  if (!options.disableIdleD3) pdev.pm.getNoresume();
  await pdev.pm.forbid();
  pdev.runtimeOps = undefined;
}

/** What a driver has forgotten, or may not have. */
function assertComplete(device: PciCoreDevice): void {
  const { pdev, migOps, logOps, migrationFlags } = device;
  const { log } = pdev.pciHost;
  const refuse = (code: 'EINVAL' | 'EBUSY', reason: string) =>
    failure(code, pdev, reason, 'vfio_pci_core_register_device');
  const foreign = getDrvdata(pdev) !== device;
  if (log.warnOn(foreign, `${pdev.name}: driver data is not the device`)) {
    throw refuse('EINVAL', 'its driver data is something else');
  }
  // Virtual functions are captured for the driver by this name.
  if (log.warnOn(!device.driverName, `${pdev.name}: the operations have no name`)) {
    throw refuse('EINVAL', 'the operations have no name');
  }
  if (pdev.hdrType !== HeaderType.NORMAL) throw refuse('EINVAL', `header type ${pdev.hdrType}`);
  if (migOps) {
    const complete = present(migOps.getState, migOps.setState, migOps.getDataSize);
    const stopCopy = (migrationFlags & MigrationFlag.STOP_COPY) !== 0;
    if (!complete || !stopCopy) throw refuse('EINVAL', 'migration is not complete');
  }
  if (logOps && !present(logOps.start, logOps.stop, logOps.readAndClear)) {
    throw refuse('EINVAL', 'logging is not complete');
  }
  // Their number would be taken back without anybody asking for that.
  if (numVf(pdev) > 0) {
    log.warn(`cannot bind to PF with SRIOV enabled`, pdev.logName());
    throw refuse('EBUSY', `it has ${numVf(pdev)} virtual functions`);
  }
}

/** Whether callbacks are there, which a driver in JavaScript may have left out. */
function present(...callbacks: readonly unknown[]): boolean {
  return callbacks.every((callback) => typeof callback === 'function');
}

/** Who is reset together is in one set; who can be reset alone is in one of its own. */
function deviceSetKey(device: PciCoreDevice): SetId {
  const { pciBus, slot, isVirtfn } = device.pdev;
  if (pciBus.isRoot || isVirtfn) return device;
  return slot && probeResetSlot(slot) ? slot : pciBus;
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_probe_power_state() */
function losesStateInD3({ pdev }: PciCoreDevice): boolean {
  if (pdev.pmCap === 0) return false;
  return (readConfigWord(pdev, pdev.pmCap + Pm.CTRL) & Pm.CTRL_NO_SOFT_RESET) === 0;
}
