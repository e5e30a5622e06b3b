/*
 * Who decodes the legacy VGA addresses. Each VGA function could, and a bridge passes them on for all or for none of what is behind it;
 * so the arbiter switches command registers and bridges whenever another function is to answer.
 */
import { SystemError } from '@vfio/host';
import { readConfigWord, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { BridgeControl, BridgeReg, Command, PciClass, Reg } from './regs.js';

/** What a client decodes or locks. Source: include/linux/vgaarb.h */
export const VgaRsrc = { NONE: 0, LEGACY_IO: 1, LEGACY_MEM: 2, NORMAL_IO: 4, NORMAL_MEM: 8 } as const;

const LEGACY = VgaRsrc.LEGACY_IO | VgaRsrc.LEGACY_MEM;
const IO = VgaRsrc.LEGACY_IO | VgaRsrc.NORMAL_IO;
const MEM = VgaRsrc.LEGACY_MEM | VgaRsrc.NORMAL_MEM;
const ALL = IO | MEM;

/** Whether a function decodes the legacy VGA addresses. Source: include/linux/pci.h pci_is_vga() */
export function isVga({ classCode }: PciDev): boolean {
  return classCode >>> 8 === PciClass.DISPLAY_VGA;
}

/** What a function decodes, alone or among several. */
export type SetDecode = (single: boolean) => number;

/** One VGA function. Source: drivers/pci/vgaarb.c struct vga_device */
interface VgaDevice {
  readonly pdev: PciDev;
  /** What it could decode. */
  decodes: number;
  /** What it decodes now. */
  owns: number;
  /** How many hold each kind; legacy and normal ones count together, as the same bit lets both through. */
  ioLocks: number;
  memLocks: number;
  setDecode: SetDecode | undefined;
}

/** The VGA functions of a host. */
export class VgaArbiter {
  readonly #devices = new Map<PciDev, VgaDevice>();
  #waiting: (() => void)[] = [];

  /** What is known of a function; undefined for one that is no VGA. */
  find(pdev: PciDev): VgaDevice | undefined {
    return this.#devices.get(pdev);
  }

  /** A function is there; whether it is a VGA is looked at here. Source: drivers/pci/vgaarb.c vga_arbiter_add_pci_device() */
  add(pdev: PciDev): void {
    if (!isVga(pdev)) return;
    const owns = ownedAtFirst(pdev);
    this.#devices.set(pdev, { pdev, decodes: ALL, owns, ioLocks: 0, memLocks: 0, setDecode: undefined });
  }

  /** A function is gone. Source: drivers/pci/vgaarb.c vga_arbiter_del_pci_device() */
  forget(pdev: PciDev): void {
    if (this.#devices.delete(pdev)) this.wake();
  }

  /** Somebody gave something back. */
  wake(): void {
    for (const go of this.#waiting.splice(0)) go();
  }

  /** Waits until somebody gives something back. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /**
   * Routes what is wanted to a function, and locks it there.
   *
   * @returns who has a lock on it; undefined: done
   * @source drivers/pci/vgaarb.c __vga_tryget()
   */
  tryGet(device: VgaDevice, rsrc: number): VgaDevice | undefined {
    const wants = rsrc & ~device.owns;
    if (wants !== 0) {
      const holder = this.#steal(device, wants);
      if (holder) return holder;
      const changesBridge = (wants & LEGACY) !== 0;
      setVgaState(device.pdev, true, commandBits(wants), changesBridge);
      device.owns |= wants;
    }
    if ((rsrc & IO) !== 0) device.ioLocks++;
    if ((rsrc & MEM) !== 0) device.memLocks++;
    return undefined;
  }

  #steal(device: VgaDevice, wants: number): VgaDevice | undefined {
    const taken: (() => void)[] = [];
    for (const other of this.#devices.values()) {
      if (other === device || other.pdev.pciBus.domain !== device.pdev.pciBus.domain) continue;
      const sameBus = other.pdev.pciBus === device.pdev.pciBus;
      // A bridge has one switch for ports and memory.
      const contested = sameBus ? wants & LEGACY : (wants & LEGACY) === 0 ? 0 : LEGACY;
      if ((locks(other) & contested) !== 0) return other;
      const match = contested & other.owns;
      if (match === 0) continue;
      taken.push(() => {
        const bits = commandBits(match);
        setVgaState(other.pdev, false, sameBus ? bits : 0, !sameBus);
        other.owns &= ~match;
        // Its own addresses go with the same bits of the command register.
        if (sameBus && (bits & Command.IO) !== 0) other.owns &= ~VgaRsrc.NORMAL_IO;
        if (sameBus && (bits & Command.MEMORY) !== 0) other.owns &= ~VgaRsrc.NORMAL_MEM;
      });
    }
    for (const take of taken) take();
    return undefined;
  }
}

/**
 * Registers a driver that can give up legacy decoding.
 *
 * @param setDecode - says what the function decodes, alone or among several
 * @throws ENODEV - it is no VGA function
 * @source drivers/pci/vgaarb.c vga_client_register()
 */
export function vgaClientRegister(pdev: PciDev, setDecode: SetDecode): void {
  vgaDevice(pdev).setDecode = setDecode;
}

/** Source: drivers/pci/vgaarb.c vga_client_unregister() */
export function vgaClientUnregister(pdev: PciDev): void {
  const device = arbiter(pdev).find(pdev);
  if (device) device.setDecode = undefined;
}

/** What a function is to decode from now on, `VgaRsrc` bits. Source: drivers/pci/vgaarb.c vga_set_legacy_decoding() */
export function vgaSetLegacyDecoding(pdev: PciDev, decodes: number): void {
  const device = arbiter(pdev).find(pdev);
  if (!device) return;
  const gone = device.decodes & ~decodes & LEGACY;
  device.decodes = decodes;
  if (gone === 0) return;
  device.owns &= ~gone;
  if ((gone & IO) !== 0) device.ioLocks = 0;
  if ((gone & MEM) !== 0) device.memLocks = 0;
  arbiter(pdev).wake();
}

/**
 * Routes legacy accesses to a function, and keeps them there until the returned lock is disposed of.
 *
 * @throws ENODEV - it is no VGA function, or gone
 * @source drivers/pci/vgaarb.c vga_get_interruptible(), vga_put()
 */
export async function vgaGet(pdev: PciDev, rsrc: number): Promise<Disposable> {
  for (;;) {
    const device = vgaDevice(pdev);
    if (!pdev.registered) throw failure(pdev, 'it is gone');
    if (!arbiter(pdev).tryGet(device, withLegacy(device, rsrc))) return new VgaLock(device, rsrc);
    await arbiter(pdev).wait();
  }
}

/** What a function decodes now, `VgaRsrc` bits; undefined for one that is no VGA function. */
export function vgaDecodes(pdev: PciDev): number | undefined {
  return arbiter(pdev).find(pdev)?.decodes;
}

/** A lock on what somebody wanted. */
class VgaLock implements Disposable {
  readonly #device: VgaDevice;
  readonly #rsrc: number;
  #given = false;

  constructor(device: VgaDevice, rsrc: number) {
    this.#device = device;
    this.#rsrc = withLegacy(device, rsrc);
  }

  [Symbol.dispose](): void {
    if (this.#given) return;
    this.#given = true;
    const device = this.#device;
    if ((this.#rsrc & IO) !== 0 && device.ioLocks > 0) device.ioLocks--;
    if ((this.#rsrc & MEM) !== 0 && device.memLocks > 0) device.memLocks--;
    arbiter(device.pdev).wake();
  }
}

/** Who decodes legacy addresses at all can not have its own without them. */
function withLegacy({ decodes }: VgaDevice, rsrc: number): number {
  const io = (rsrc & VgaRsrc.NORMAL_IO) === 0 ? 0 : decodes & VgaRsrc.LEGACY_IO;
  const mem = (rsrc & VgaRsrc.NORMAL_MEM) === 0 ? 0 : decodes & VgaRsrc.LEGACY_MEM;
  return rsrc | io | mem;
}

function locks({ ioLocks, memLocks }: VgaDevice): number {
  return (ioLocks > 0 ? VgaRsrc.LEGACY_IO : 0) | (memLocks > 0 ? VgaRsrc.LEGACY_MEM : 0);
}

function commandBits(rsrc: number): number {
  return ((rsrc & IO) === 0 ? 0 : Command.IO) | ((rsrc & MEM) === 0 ? 0 : Command.MEMORY);
}

/** What firmware has left it with. Source: drivers/pci/vgaarb.c vga_arbiter_add_pci_device() */
function ownedAtFirst(pdev: PciDev): number {
  for (let bridge = pdev.pciBus.self; bridge; bridge = bridge.pciBus.self) {
    if ((readConfigWord(bridge, BridgeReg.BRIDGE_CONTROL) & BridgeControl.VGA) === 0) return 0;
  }
  const command = readConfigWord(pdev, Reg.COMMAND);
  return ((command & Command.IO) === 0 ? 0 : IO) | ((command & Command.MEMORY) === 0 ? 0 : MEM);
}

/** Source: drivers/pci/pci.c pci_set_vga_state() */
function setVgaState(pdev: PciDev, decode: boolean, bits: number, bridges: boolean): void {
  const change = (at: PciDev, register: number, mask: number) => {
    const old = readConfigWord(at, register);
    const value = decode ? old | mask : old & ~mask;
    if (value !== old) writeConfigWord(at, register, value);
  };
  if (bits !== 0) change(pdev, Reg.COMMAND, bits);
  if (!bridges) return;
  for (let bridge = pdev.pciBus.self; bridge; bridge = bridge.pciBus.self) {
    change(bridge, BridgeReg.BRIDGE_CONTROL, BridgeControl.VGA);
  }
}

function arbiter(pdev: PciDev): VgaArbiter {
  return pdev.pciBus.domain.type.vga;
}

/** @throws ENODEV */
function vgaDevice(pdev: PciDev): VgaDevice {
  const device = arbiter(pdev).find(pdev);
  if (!device) throw failure(pdev, 'no VGA function');
  return device;
}

function failure(pdev: PciDev, reason: string): SystemError {
  return new SystemError('ENODEV', reason, { syscall: 'vga_get', subject: pdev.name });
}
