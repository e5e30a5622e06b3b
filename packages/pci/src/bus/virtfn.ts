/*
 * One virtual function: a device whose number, addresses and ids come from its physical function. Its number may be on a bus that
 * has nothing but virtual functions, which comes and goes with them.
 */
import { SystemError, Undo } from '@vfio/host';
import { resourceAt } from './bar-sizing.js';
import { busAddDevice } from './bus-add.js';
import { readConfigWord } from './config.js';
import { registerBusDevice, unregisterBusDevice } from './enumerate.js';
import { removeBusDevice } from './hotplug.js';
import type { SriovState } from './iov.js';
import { PciBus } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';
import { Reg, ResourceIndex, Sriov } from './regs.js';
import { allocDev, deviceAdd, setupDevice } from './setup-device.js';

/**
 * Makes a virtual function: its device, both links, and a driver if there is one for it.
 *
 * @throws EIO - it does not answer
 * @throws EEXIST, ENOMEM, EBUSY - nothing is left of it
 * @source drivers/pci/iov.c pci_iov_add_virtfn()
 */
export async function addVirtfn(pf: PciDev, sriov: SriovState, index: number): Promise<void> {
  await using undo = new Undo();
  const rid = pf.rid + sriov.offset + sriov.stride * index;
  const bus = await addBus(pf, rid >> 8);
  undo.add(async () => await removeBus(pf, bus));
  const pdev = makeVf(pf, sriov, index, bus, rid & 0xff);
  const { devices } = pf.pciHost;
  devices.init(pdev);
  undo.add(() => pdev.put());
  claimBars(pf, sriov, pdev, index);
  undo.add(() => releaseBars(pdev));
  await deviceAdd(pdev);
  undo.keep();
  // From here on its removal undoes all of it.
  undo.add(async () => {
    await removeBusDevice(pdev);
    await removeBus(pf, bus);
  });
  pf.sysfs.addLink(linkName(index), pdev.sysfs);
  undo.add(() => pf.sysfs.removeEntry(linkName(index)));
  pdev.sysfs.addLink('physfn', pf.sysfs);
  devices.uevent(pdev, 'change');
  sriov.virtfns[index] = pdev;
  undo.keep();
  await busAddDevice(pdev);
}

/**
 * Takes a virtual function away, its driver first.
 *
 * @source drivers/pci/iov.c pci_iov_remove_virtfn()
 */
export async function removeVirtfn(pf: PciDev, sriov: SriovState, index: number): Promise<void> {
  const pdev = sriov.virtfns[index];
  // Somebody may have removed it by its own file.
  if (pdev?.registered) {
    pdev.sysfs.removeEntry('physfn');
    await removeBusDevice(pdev);
  }
  if (pf.registered) pf.sysfs.removeEntry(linkName(index));
  delete sriov.virtfns[index];
  if (pdev) await removeBus(pf, pdev.pciBus);
}

/**
 * The device of a virtual function, whose BARs are not there yet.
 *
 * @throws EIO - it does not answer, or has a header that is unknown
 * @throws ENOMEM
 */
export function makeVf(pf: PciDev, sriov: SriovState, index: number, bus: PciBus, devfn: number): PciDev {
  const hw = pf.hw.virtualFunction?.(index);
  if (!hw) throw new SystemError('EIO', `virtual function ${index} does not answer`, { subject: pf.name });
  const pdev = allocDev(bus, devfn, hw);
  pdev.vendor = pf.vendor;
  pdev.deviceId = sriov.vfDevice;
  pdev.isVirtfn = true;
  pdev.physfn = pf;
  // It has no such bit: its physical function's switch decides.
  pdev.noCommandMemory = true;
  if (!setupDevice(pdev)) throw new SystemError('EIO', `virtual function ${index} has no header`, { subject: pf.name });
  pdev.subsystemVendor = readConfigWord(pdev, Reg.SUBSYSTEM_VENDOR_ID);
  pdev.subsystemDevice = readConfigWord(pdev, Reg.SUBSYSTEM_ID);
  pdev.multifunction = false;
  return pdev;
}

/** Each BAR is the part of the physical function's that belongs to the index. */
function claimBars(pf: PciDev, { totalVfs }: SriovState, pdev: PciDev, index: number): void {
  try {
    for (let bar = 0; bar < Sriov.NUM_BARS; bar++) {
      const all = resourceAt(pf, ResourceIndex.IOV + bar);
      if (!all.parent) continue;
      const resource = resourceAt(pdev, bar);
      const size = all.size / totalVfs;
      resource.name = pdev.name;
      resource.flags = all.flags;
      resource.start = all.start + size * index;
      resource.end = resource.start + size - 1;
      pdev.pciBus.domain.claim(all, pdev, bar, resource);
    }
  } catch (error) {
    releaseBars(pdev);
    throw error;
  }
}

function releaseBars(pdev: PciDev): void {
  for (const resource of pdev.resource) if (resource.parent) pdev.pciBus.domain.release(resource);
}

/** The bus that a number is on; one more if there is none. Source: drivers/pci/iov.c virtfn_add_bus() */
async function addBus(pf: PciDev, number: number): Promise<PciBus> {
  const { pciBus } = pf;
  const { domain } = pciBus;
  const known = domain.busAt(number);
  if (known) return known;
  domain.host.faults.check('pci_alloc_bus:bus');
  // Nothing is found there by scanning: who is there, the physical function knows.
  const bus = new PciBus(domain, number, { at: () => undefined, devfns: () => [] }, pciBus.self);
  bus.ariEnabled = pciBus.ariEnabled;
  await registerBusDevice(bus);
  return bus;
}

/** Source: drivers/pci/iov.c virtfn_remove_bus() */
async function removeBus(pf: PciDev, bus: PciBus): Promise<void> {
  if (bus !== pf.pciBus && bus.devices.length === 0) await unregisterBusDevice(bus);
}

function linkName(index: number): string {
  return `virtfn${index}`;
}
