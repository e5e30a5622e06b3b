/*
 * A function becomes a device: what its header says is read once, its BARs are sized, and it gets a place on its bus. Each step
 * is there for ordinary functions and, as far as they have the registers, for virtual ones.
 */
import { Undo } from '@vfio/host';
import { readBases } from './bar-sizing.js';
import { readBridgeWindows } from './bridge-windows.js';
import { initCapabilities } from './capabilities.js';
import { findCapability } from './caps.js';
import { readConfigByte, readConfigDword, readConfigWord, writeConfigWord } from './config.js';
import type { PciFunction } from './function.js';
import { rootPin } from './intx-routing.js';
import type { PciBus } from './pci-bus.js';
import { PciDev } from './pci-dev.js';
import { PciDevPort } from './port.js';
import { setPciePortType } from './ports.js';
import { BridgeReg, CapId, CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, Command, HeaderType, pciName, Reg } from './regs.js';
import { assignSlot } from './slots.js';

/** Offset of the ids in the capability that bridges have for them. */
const SSVID_VENDOR = 4;
const SSVID_DEVICE = 6;
/** BARs of each kind of header. */
const NORMAL_BARS = 6;
const BRIDGE_BARS = 2;
const CARDBUS_BARS = 1;
/** Where a CardBus bridge has its subsystem. */
const CARDBUS_SUBSYSTEM_VENDOR = 0x40;
const CARDBUS_SUBSYSTEM_DEVICE = 0x42;

/**
 * Makes the device of a function that answers; nothing is read yet.
 *
 * @throws ENOMEM
 * @source drivers/pci/probe.c pci_alloc_dev()
 */
export function allocDev(bus: PciBus, devfn: number, hw: PciFunction): PciDev {
  const { domain } = bus;
  const { type, host } = domain;
  host.faults.check('pci_alloc_dev:dev');
  const name = pciName(domain.number, bus.number, devfn);
  const pdev: PciDev = new PciDev({
    bus,
    devfn,
    hw,
    device: {
      name,
      parent: bus.self ?? domain.bridge,
      bus: type,
      get groups() {
        return type.functionGroups(pdev);
      },
    },
  });
  return pdev;
}

/**
 * Reads the header of a function, and sizes what it decodes.
 *
 * @returns false - its kind of header is unknown: it is left alone
 * @source drivers/pci/probe.c pci_setup_device()
 */
export function setupDevice(pdev: PciDev): boolean {
  const header = readConfigByte(pdev, Reg.HEADER_TYPE);
  pdev.hdrType = header & HeaderType.MASK;
  pdev.multifunction = (header & HeaderType.MFD) !== 0;
  if (!pdev.isVirtfn) {
    pdev.vendor = readConfigWord(pdev, Reg.VENDOR_ID);
    pdev.deviceId = readConfigWord(pdev, Reg.DEVICE_ID);
  }
  const revision = readConfigDword(pdev, Reg.REVISION_ID);
  pdev.revision = revision & 0xff;
  pdev.classCode = revision >>> 8;
  setPciePortType(pdev);
  pdev.cfgSize = cfgSpaceSize(pdev);
  assignSlot(pdev);
  switch (pdev.hdrType) {
    case HeaderType.NORMAL:
      readIrq(pdev);
      if (!pdev.isVirtfn) {
        pdev.brokenIntxMasking = intxMaskBroken(pdev);
        readBases(pdev, NORMAL_BARS, Reg.ROM_ADDRESS);
        pdev.subsystemVendor = readConfigWord(pdev, Reg.SUBSYSTEM_VENDOR_ID);
        pdev.subsystemDevice = readConfigWord(pdev, Reg.SUBSYSTEM_ID);
      }
      return true;
    case HeaderType.BRIDGE: {
      readIrq(pdev);
      pdev.brokenIntxMasking = intxMaskBroken(pdev);
      readBases(pdev, BRIDGE_BARS, BridgeReg.ROM_ADDRESS);
      readBridgeWindows(pdev);
      const ids = findCapability(pdev, CapId.SSVID);
      if (ids !== 0) {
        pdev.subsystemVendor = readConfigWord(pdev, ids + SSVID_VENDOR);
        pdev.subsystemDevice = readConfigWord(pdev, ids + SSVID_DEVICE);
      }
      return true;
    }
    case HeaderType.CARDBUS:
      // What is behind a CardBus bridge is not looked for.
      readIrq(pdev);
      readBases(pdev, CARDBUS_BARS);
      pdev.subsystemVendor = readConfigWord(pdev, CARDBUS_SUBSYSTEM_VENDOR);
      pdev.subsystemDevice = readConfigWord(pdev, CARDBUS_SUBSYSTEM_DEVICE);
      return true;
    default:
      pdev.pciHost.log.err(`unknown header type ${hexByte(pdev.hdrType)}, ignoring device`, `pci ${pdev.name}`);
      return false;
  }
}

/**
 * Puts a function on its bus: its hardware gets a port, its capabilities are found, its directory appears. No driver is asked yet.
 *
 * @throws EEXIST, ENOMEM - nothing is left of it then but the caller's reference
 * @source drivers/pci/probe.c pci_device_add()
 */
export async function deviceAdd(pdev: PciDev): Promise<void> {
  const { pciBus, hw } = pdev;
  await using undo = new Undo();
  initCapabilities(pdev);
  wirePin(pdev);
  insert(pciBus, pdev);
  undo.add(() => remove(pciBus, pdev));
  const { vga } = pciBus.domain.type;
  vga.add(pdev);
  undo.add(() => vga.forget(pdev));
  await pdev.pciHost.devices.add(pdev);
  undo.add(() => pdev.pciHost.devices.del(pdev));
  const { domain } = pciBus;
  if (domain.root.acpi && !pdev.isVirtfn) await domain.type.firmware().add(pdev);
  undo.keep();
  const port = new PciDevPort(pdev);
  pdev.port = port;
  hw.plug(port);
}

/** By number; virtual functions are added behind all others. */
function insert(bus: PciBus, pdev: PciDev): void {
  const { devices } = bus;
  const last = devices.at(-1);
  if (!last || pdev.isVirtfn || (last.devfn < pdev.devfn && !last.isVirtfn)) {
    devices.push(pdev);
    return;
  }
  const at = devices.findIndex((other) => other.isVirtfn || other.devfn > pdev.devfn);
  devices.splice(at, 0, pdev);
}

function remove(bus: PciBus, pdev: PciDev): void {
  const at = bus.devices.indexOf(pdev);
  if (at >= 0) bus.devices.splice(at, 1);
}

/** Source: drivers/pci/probe.c pci_read_irq(): virtual functions have no pin, whatever they say. */
function readIrq(pdev: PciDev): void {
  if (pdev.isVirtfn) return;
  pdev.pin = readConfigByte(pdev, Reg.INTERRUPT_PIN);
  pdev.irq = pdev.pin === 0 ? 0 : readConfigByte(pdev, Reg.INTERRUPT_LINE);
}

function wirePin(pdev: PciDev): void {
  if (pdev.pin === 0 || pdev.pin > 4) return;
  const { domain } = pdev.pciBus;
  const { slot, pin } = rootPin(pdev);
  const number = domain.root.routeIntx(slot, pin);
  if (number !== undefined) pdev.intxWire = domain.type.wire(number);
}

/** Config space beyond 256 bytes is there for PCI Express functions that answer in it. Source: drivers/pci/probe.c pci_cfg_space_size() */
function cfgSpaceSize(pdev: PciDev): number {
  if (pdev.hw.configSize <= CFG_SPACE_SIZE) return CFG_SPACE_SIZE;
  if (!pdev.isVirtfn && !pdev.isPcie && findCapability(pdev, CapId.PCIX) === 0) return CFG_SPACE_SIZE;
  return readConfigDword(pdev, CFG_SPACE_SIZE) === 0xffff_ffff ? CFG_SPACE_SIZE : CFG_SPACE_EXP_SIZE;
}

/** Whether the disable bit of the pin is not there. Source: drivers/pci/probe.c pci_intx_mask_broken() */
function intxMaskBroken(pdev: PciDev): boolean {
  const before = readConfigWord(pdev, Reg.COMMAND);
  const toggled = before ^ Command.INTX_DISABLE;
  writeConfigWord(pdev, Reg.COMMAND, toggled);
  const after = readConfigWord(pdev, Reg.COMMAND);
  writeConfigWord(pdev, Reg.COMMAND, before);
  return after !== toggled;
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, '0');
}
