/*
 * Finding functions: every slot of a bus, then what is behind its bridges. Bridges that firmware has numbered keep their
 * numbers; the others get the next free ones.
 */
import { Device, Undo } from '@vfio/host';
import { findExtCapability } from './caps.js';
import { readConfigByte, readConfigWord, writeConfigByte } from './config.js';
import type { PciSegment } from './function.js';
import { PciBus } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';
import { isDownstreamPort } from './ports.js';
import { Ari, BridgeReg, ExtCapId, Reg } from './regs.js';
import { allocDev, deviceAdd, setupDevice } from './setup-device.js';

const SLOTS = 32;
const FUNCTIONS = 8;
/** What a slot says in which nobody is, and what broken hardware says. */
const NO_VENDOR = [0xffff_ffff, 0, 0x0000_ffff, 0xffff_0000];

/** Behind a bridge that hardware has nothing behind. */
const emptySegment: PciSegment = { at: () => undefined, devfns: () => [] };

/**
 * Finds what is new on a bus and below.
 *
 * @returns the highest bus number below
 * @throws ENOMEM, EEXIST - what was found until then stays
 * @source drivers/pci/probe.c pci_scan_child_bus()
 */
export async function scanChildBus(bus: PciBus): Promise<number> {
  for (let slot = 0; slot < SLOTS; slot++) await scanSlot(bus, slot * FUNCTIONS);
  let max = Math.max(bus.number, ...bus.devices.map(lastVfBus));
  const unnumbered: PciDev[] = [];
  for (const bridge of bus.devices.filter(({ isBridge }) => isBridge)) {
    if (bridge.subordinate || firmwareNumbered(bridge)) max = Math.max(max, await scanBridge(bus, bridge));
    else unnumbered.push(bridge);
  }
  for (const bridge of unnumbered) max = await numberBridge(bus, bridge, max);
  return max;
}

/**
 * Finds the functions of one slot, or of all of them behind a link whose device routes by function number.
 *
 * @source drivers/pci/probe.c pci_scan_slot()
 */
async function scanSlot(bus: PciBus, devfn: number): Promise<void> {
  if (devfn > 0 && bus.self && isDownstreamPort(bus.self)) return;
  let pdev = await scanSingleDevice(bus, devfn);
  for (let fn = nextFunction(bus, pdev, 0); fn > 0; fn = nextFunction(bus, pdev, fn)) {
    pdev = await scanSingleDevice(bus, devfn + fn, true);
  }
}

/** Source: drivers/pci/probe.c next_fn(), next_ari_fn() */
function nextFunction(bus: PciBus, pdev: PciDev | undefined, fn: number): number {
  if (bus.ariEnabled) {
    const cap = pdev ? findExtCapability(pdev, ExtCapId.ARI) : 0;
    if (!pdev || cap === 0) return 0;
    const next = readConfigWord(pdev, cap + Ari.CAP) >> 8;
    return next > fn ? next : 0;
  }
  if (fn === 0 && !pdev?.multifunction) return 0;
  return fn + 1 < FUNCTIONS ? fn + 1 : 0;
}

/**
 * Looks for a function, and adds it if it is new.
 *
 * @param further - it is not the first one of its device
 * @source drivers/pci/probe.c pci_scan_single_device()
 */
async function scanSingleDevice(bus: PciBus, devfn: number, further = false): Promise<PciDev | undefined> {
  const known = bus.device(devfn);
  if (known) return known;
  const hw = bus.segment.at(devfn);
  if (!hw || NO_VENDOR.includes(hw.readConfig(Reg.VENDOR_ID, 4) >>> 0)) return undefined;
  const pdev = allocDev(bus, devfn, hw);
  if (!setupDevice(pdev)) return undefined;
  // Who has a function beside it is one of several, also if its header does not say so.
  if (further) pdev.multifunction = true;
  const { devices } = bus.domain.host;
  devices.init(pdev);
  try {
    await deviceAdd(pdev);
  } catch (error) {
    pdev.put();
    throw error;
  }
  return pdev;
}

/** Virtual functions may have numbers on buses that are not there. Source: drivers/pci/iov.c pci_iov_bus_range() */
function lastVfBus(pdev: PciDev): number {
  const { sriov } = pdev;
  if (!sriov || sriov.totalVfs === 0) return pdev.pciBus.number;
  return (pdev.rid + sriov.offset + sriov.stride * (sriov.totalVfs - 1)) >> 8;
}

/** Whether firmware has given a bridge numbers that make sense. */
function firmwareNumbered(bridge: PciDev): boolean {
  const secondary = readConfigByte(bridge, BridgeReg.SECONDARY_BUS);
  const subordinate = readConfigByte(bridge, BridgeReg.SUBORDINATE_BUS);
  const { number, domain } = bridge.pciBus;
  const primary = readConfigByte(bridge, BridgeReg.PRIMARY_BUS);
  return secondary > number && subordinate >= secondary && primary === number && !domain.busTaken(secondary);
}

/** Scans behind a bridge that has its numbers. Source: drivers/pci/probe.c pci_scan_bridge_extend() */
async function scanBridge(bus: PciBus, bridge: PciDev): Promise<number> {
  const number = readConfigByte(bridge, BridgeReg.SECONDARY_BUS);
  const child = bridge.subordinate ?? (await addChildBus(bus, bridge, number));
  child.subordinate = readConfigByte(bridge, BridgeReg.SUBORDINATE_BUS);
  await scanChildBus(child);
  return child.subordinate;
}

/**
 * Gives a bridge the next bus numbers, and scans behind it.
 *
 * @param max - highest number in use on this bus and below
 */
async function numberBridge(bus: PciBus, bridge: PciDev, max: number): Promise<number> {
  const { domain } = bus;
  const number = max + 1;
  if (number > Math.min(bus.subordinate, domain.lastBus) || domain.busTaken(number)) {
    domain.host.log.warn('No bus number available for bridge', `pci ${bridge.name}`);
    return max;
  }
  const child = await addChildBus(bus, bridge, number);
  writeConfigByte(bridge, BridgeReg.PRIMARY_BUS, bus.number);
  writeConfigByte(bridge, BridgeReg.SECONDARY_BUS, number);
  // Whatever is behind is reached while it is numbered.
  child.subordinate = bus.subordinate;
  writeConfigByte(bridge, BridgeReg.SUBORDINATE_BUS, child.subordinate);
  child.subordinate = await scanChildBus(child);
  writeConfigByte(bridge, BridgeReg.SUBORDINATE_BUS, child.subordinate);
  return child.subordinate;
}

/** Source: drivers/pci/probe.c pci_add_new_bus() */
async function addChildBus(parent: PciBus, bridge: PciDev, number: number): Promise<PciBus> {
  parent.domain.host.faults.check('pci_alloc_bus:bus');
  const child = new PciBus(parent.domain, number, bridge.hw.secondary ?? emptySegment, bridge);
  await registerBusDevice(child);
  bridge.subordinate = child;
  parent.children.push(child);
  return child;
}

/**
 * Makes the directory of a bus, `pci_bus/0000:00`.
 *
 * @throws EEXIST - the domain has a bus of that number
 * @throws ENOMEM
 * @source drivers/pci/probe.c pci_register_host_bridge(), pci_alloc_child_bus()
 */
export async function registerBusDevice(bus: PciBus): Promise<void> {
  const { domain, self } = bus;
  const name = `${hex(domain.number, 4)}:${hex(bus.number, 2)}`;
  const device = new Device({
    name,
    parent: self ?? domain.bridge,
    class: domain.type.busClass,
    groups: domain.type.busDirGroups(bus),
  });
  const { devices } = domain.host;
  await using undo = new Undo();
  devices.init(device);
  undo.add(() => device.put());
  await devices.add(device);
  bus.dev = device;
  domain.buses.set(bus.number, bus);
  undo.keep();
}

/** Source: drivers/pci/remove.c pci_remove_bus() */
export async function unregisterBusDevice(bus: PciBus): Promise<void> {
  const { dev, domain } = bus;
  if (!dev) return;
  bus.dev = undefined;
  domain.buses.delete(bus.number);
  await domain.host.devices.unregister(dev);
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
