/*
 * A bus for functions without a kernel: it notes what comes out of them.
 */
import { DmaEngine, Host, VirtualClock } from '@vfio/host';
import { pciInit } from '../../src/bus/bus-type.js';
import type { PciPort } from '../../src/bus/function.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { Command, Reg } from '../../src/bus/regs.js';
import { assignFirmware } from '../../src/hardware/firmware.js';
import type { EmulatedFunction } from '../../src/hardware/function.js';
import { EmulatedRoot, type RootOptions } from '../../src/hardware/root.js';

/** What has come out of a function. */
export interface Noted {
  pin: boolean;
  readonly messages: { readonly address: bigint; readonly data: number }[];
  /** Memory that it reaches, from 0 on. */
  readonly memory: Uint8Array;
}

const MEMORY_BYTES = 0x1_0000;
/** Where interrupt messages go. */
export const DOORBELL = 0xfee0_0000n;

/** Puts a function into a slot of a bus that nobody scans. */
export function plugged(fn: EmulatedFunction): Noted {
  const noted: Noted = { pin: false, messages: [], memory: new Uint8Array(MEMORY_BYTES) };
  const memory = {
    read: (at: number, into: Uint8Array) => into.set(noted.memory.subarray(at, at + into.length)),
    write: (at: number, from: Uint8Array) => noted.memory.set(from, at),
    view: () => undefined,
  };
  const doorbell = {
    isDoorbell: (address: bigint) => address >= DOORBELL && address < DOORBELL + 0x10_0000n,
    deliver: (message: { readonly address: bigint; readonly data: number }) => void noted.messages.push({ ...message }),
  };
  const route = { unit: () => undefined, domain: () => undefined };
  const port: PciPort = {
    name: 'lab',
    dma: new DmaEngine('lab', memory, doorbell, route),
    raiseIntx: () => {
      noted.pin = true;
    },
    lowerIntx: () => {
      noted.pin = false;
    },
    reportError: () => undefined,
  };
  fn.plug(port);
  return noted;
}

/** Switches on memory, ports and DMA. */
export function decoding(fn: EmulatedFunction, bits: number = Command.IO | Command.MEMORY | Command.MASTER): void {
  fn.writeConfig(Reg.COMMAND, 2, bits);
}

/** A host with emulated hardware that firmware has set up. */
export async function emulated(fill: (root: EmulatedRoot) => void, options: RootOptions = {}) {
  const clock = new VirtualClock();
  const iommu = {
    aperture: [0n, 2n ** 39n - 1n] as const,
    pageSizes: 0x1000n,
    coherent: true,
    msiIsolated: true,
    reserved: [],
  };
  const host = new Host({ checked: true, clock, iommu });
  const bus = await pciInit(host);
  const root = new EmulatedRoot(options);
  fill(root);
  assignFirmware(root);
  const domain = await bus.addRoot(root);
  const at = (number: number, devfn: number): PciDev => {
    const found = bus.find(0, number, devfn);
    if (!found) throw new Error(`nobody at ${number}:${devfn}`);
    return found;
  };
  return { host, bus, root, domain, at, clock };
}
