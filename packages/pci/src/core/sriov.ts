/*
 * Making virtual functions of a function that is in VFIO. It stays awake as long as it has any.
 */
import { Undo } from '@vfio/host';
import { numVf } from '../bus/iov.js';
import { PowerState } from '../bus/power-state.js';
import { disableSriov, enableSriov } from '../bus/sriov.js';
import type { PciCoreDevice } from './core-device.js';
import { downWriteMemory } from './memory.js';
import { failure } from './pci-failure.js';
import { trySetPowerState } from './power.js';

/**
 * Somebody writes `sriov_numvfs`; the lock of the function's device is held.
 *
 * @param count - 0 takes all away
 * @returns how many there are now
 * @throws EINVAL - there are some, or are about to be
 * @throws what `enableSriov` says; none are there then
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_sriov_configure()
 */
export async function sriovConfigure(device: PciCoreDevice, count: number): Promise<number> {
  return count > 0 ? await enable(device, count) : await disable(device);
}

async function enable(device: PciCoreDevice, count: number): Promise<number> {
  const { pdev } = device;
  if (device.sriovListed) throw failure('EINVAL', pdev, 'it has virtual functions', 'vfio_pci_core_sriov_configure');
  await using undo = new Undo();
  device.sriovListed = true;
  undo.add(() => {
    device.sriovListed = false;
  });
  await pdev.pm.resumeAndGet();
  undo.add(() => pdev.pm.put());
  {
    // Its user may just be sending it to sleep, or about to.
    using _held = await downWriteMemory(device);
    await trySetPowerState(device, PowerState.D0);
    device.sriovActive = true;
  }
  undo.add(async () => {
    using _held = await downWriteMemory(device);
    device.sriovActive = false;
  });
  await enableSriov(pdev, count);
  undo.keep();
  return count;
}

async function disable(device: PciCoreDevice): Promise<number> {
  const { pdev } = device;
  if (numVf(pdev) > 0) {
    await disableSriov(pdev);
    await pdev.pm.put();
  }
  device.sriovActive = false;
  device.sriovListed = false;
  return 0;
}
