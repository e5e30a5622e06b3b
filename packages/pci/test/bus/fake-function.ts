/*
 * A function for tests of the bus: registers that keep what their mask lets through, BARs with plain memory behind them.
 */
import type { PciFunction, PciPort, PciRoot, PciSegment, PciWidth } from '../../src/bus/function.js';
import { Command, HeaderType, Reg, Status } from '../../src/bus/regs.js';

/** A BAR. Bits as in its register: 1 ports, 4 of 64 bits, 8 prefetchable. */
export interface FakeBar {
  readonly size: number;
  readonly bits?: number;
  /** Where firmware has put it. */
  readonly at?: number;
}

/** A capability: its bytes without id and next, and which bits of them can be written. */
export interface FakeCap {
  readonly id: number;
  readonly bytes: readonly number[];
  readonly writable?: readonly number[];
}

/** What a function is made of. */
export interface FakeOptions {
  readonly vendor?: number;
  readonly device?: number;
  readonly classCode?: number;
  readonly multifunction?: boolean;
  readonly pin?: number;
  readonly line?: number;
  readonly bars?: Readonly<Record<number, FakeBar>>;
  readonly rom?: number;
  readonly caps?: readonly FakeCap[];
  readonly extCaps?: readonly FakeCap[];
  readonly pcie?: boolean;
  /** It is a bridge, and these are behind it, by devfn. */
  readonly behind?: Map<number, FakeFunction>;
  /** What firmware has given the bridge: primary, secondary, subordinate bus. */
  readonly buses?: readonly [number, number, number];
}

const CAPS_AT = 0x40;
const EXT_CAPS_AT = 0x100;

/** A segment out of a map that tests may change. */
export function segmentOf(functions: Map<number, FakeFunction>): PciSegment {
  return {
    at: (devfn) => functions.get(devfn),
    devfns: () => [...functions.keys()].sort((a, b) => a - b),
  };
}

/** A root with wide windows, whose slots have interrupts 16 to 19. */
export function rootOf(functions: Map<number, FakeFunction>, options: Partial<PciRoot> = {}): PciRoot {
  return {
    domain: 0,
    bus: 0,
    segment: segmentOf(functions),
    memory: [
      { start: 0xc000_0000, end: 0xfdff_ffff },
      { start: 0x8000_0000_0000, end: 0x8fff_ffff_ffff },
    ],
    io: [{ start: 0x1000, end: 0xffff }],
    routeIntx: (slot, pin) => 16 + ((slot + pin - 1) % 4),
    ...options,
  };
}

/** A PCI Express capability of version 2. */
export function pcieCap(type: number, options: { slot?: boolean; ari?: boolean } = {}): FakeCap {
  const bytes = new Uint8Array(0x3a);
  bytes[0] = 2 | (type << 4);
  bytes[1] = options.slot ? 1 : 0;
  bytes[0x0a] = 0x11; // 2.5 GT/s, one lane
  bytes[0x10] = 0x11;
  if (options.slot) bytes[0x12] = 0x40; // somebody can take the card out
  if (options.ari) bytes[0x22] = 0x20;
  const writable = new Uint8Array(0x3a);
  writable.fill(0xff, 0x26, 0x28);
  return { id: 0x10, bytes: [...bytes], writable: [...writable] };
}

/** ACS that can isolate. */
export const acsCap: FakeCap = { id: 0x0d, bytes: [0x1d, 0, 0, 0], writable: [0, 0, 0x1d, 0] };

export class FakeFunction implements PciFunction {
  readonly configSize: number;
  readonly config: Uint8Array;
  readonly writable: Uint8Array;
  readonly memory = new Map<number, Uint8Array>();
  readonly secondary?: PciSegment;
  port: PciPort | undefined;
  resets = 0;
  unplugged = false;

  constructor(options: FakeOptions = {}) {
    this.configSize = options.pcie || options.extCaps ? 4096 : 256;
    this.config = new Uint8Array(this.configSize);
    this.writable = new Uint8Array(this.configSize);
    const { vendor = 0x1234, device = 0x5678, classCode = 0xff_0000, pin = 0, line = 0, behind } = options;
    this.set(Reg.VENDOR_ID, 4, vendor | (device << 16));
    this.set(Reg.REVISION_ID, 4, (classCode << 8) | 0x10);
    this.set(Reg.COMMAND, 2, 0, 0x0507);
    this.set(Reg.HEADER_TYPE, 1, (behind ? HeaderType.BRIDGE : 0) | (options.multifunction ? HeaderType.MFD : 0));
    this.set(Reg.INTERRUPT_LINE, 1, line, 0xff);
    this.set(Reg.INTERRUPT_PIN, 1, pin);
    if (behind) {
      this.secondary = segmentOf(behind);
      const [primary, secondary, subordinate] = options.buses ?? [0, 0, 0];
      this.set(0x18, 4, primary | (secondary << 8) | (subordinate << 16), 0xff_ffff);
      this.set(0x1c, 2, 0x0101, 0xf0f0);
      this.set(0x20, 4, 0, 0xfff0_fff0);
      this.set(0x24, 4, 0x0001_0001, 0xfff0_fff0);
      for (const register of [0x28, 0x2c, 0x30]) this.set(register, 4, 0, 0xffff_ffff);
      this.set(0x3e, 2, 0, 0x48);
    } else {
      this.set(Reg.SUBSYSTEM_VENDOR_ID, 4, 0x1100_1af4);
      if (options.rom) this.set(Reg.ROM_ADDRESS, 4, 0, (~(options.rom - 1) | 1) >>> 0);
    }
    for (const [index, bar] of Object.entries(options.bars ?? {})) this.#addBar(Number(index), bar);
    this.#addCaps(options.caps ?? []);
    this.#addExtCaps(options.extCaps ?? []);
  }

  /** Sets a register, and which of its bits can be written. */
  set(offset: number, width: number, value: number, writable?: number): void {
    for (let byte = 0; byte < width; byte++) {
      this.config[offset + byte] = value >>> (8 * byte);
      if (writable !== undefined) this.writable[offset + byte] = writable >>> (8 * byte);
    }
  }

  readConfig(offset: number, width: PciWidth): number {
    if (this.unplugged) return width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1;
    let value = 0;
    for (let byte = 0; byte < width; byte++) value |= (this.config[offset + byte] ?? 0xff) << (8 * byte);
    return value >>> 0;
  }

  writeConfig(offset: number, width: PciWidth, value: number): void {
    for (let byte = 0; byte < width; byte++) {
      const mask = this.writable[offset + byte] ?? 0;
      const old = this.config[offset + byte] ?? 0;
      this.config[offset + byte] = (old & ~mask) | ((value >>> (8 * byte)) & mask);
    }
  }

  readBar(bar: number, offset: number, width: PciWidth): number {
    const bytes = this.#decoded(bar);
    let value = 0;
    for (let byte = 0; byte < width; byte++) value |= (bytes?.[offset + byte] ?? 0xff) << (8 * byte);
    return value >>> 0;
  }

  writeBar(bar: number, offset: number, width: PciWidth, value: number): void {
    const bytes = this.#decoded(bar);
    if (!bytes) return;
    for (let byte = 0; byte < width; byte++) bytes[offset + byte] = value >>> (8 * byte);
  }

  busReset(): void {
    this.resets++;
    this.set(Reg.COMMAND, 2, 0);
  }

  plug(port: PciPort): void {
    this.port = port;
  }

  unplug(): void {
    this.unplugged = true;
    this.port = undefined;
  }

  #decoded(bar: number): Uint8Array | undefined {
    const ports = ((this.config[Reg.BASE_ADDRESS_0 + 4 * bar] ?? 0) & 1) !== 0;
    const needed = ports ? Command.IO : Command.MEMORY;
    return (this.readConfig(Reg.COMMAND, 2) & needed) === 0 || this.unplugged ? undefined : this.memory.get(bar);
  }

  #addBar(index: number, { size, bits = 0, at = 0 }: FakeBar): void {
    const register = Reg.BASE_ADDRESS_0 + 4 * index;
    this.memory.set(index, new Uint8Array(Math.min(size, 0x10_0000)));
    const mask = -BigInt(size) & ((1n << 64n) - 1n);
    this.set(register, 4, (at % 2 ** 32) + bits, Number(mask & 0xffff_ffffn) & ~0xf);
    if ((bits & 1) !== 0) this.set(register, 4, at + bits, Number(mask & 0xfffcn));
    if ((bits & 4) !== 0) this.set(register + 4, 4, Math.floor(at / 2 ** 32), Number(mask >> 32n));
  }

  #addCaps(caps: readonly FakeCap[]): void {
    let at = CAPS_AT;
    if (caps.length > 0) {
      this.set(Reg.STATUS, 2, Status.CAP_LIST);
      this.set(Reg.CAPABILITY_LIST, 1, at);
    }
    for (const [index, { id, bytes, writable }] of caps.entries()) {
      const next = (at + 2 + bytes.length + 3) & ~3;
      this.set(at, 2, id | ((index === caps.length - 1 ? 0 : next) << 8));
      this.config.set(bytes, at + 2);
      this.writable.set(writable ?? [], at + 2);
      at = next;
    }
  }

  #addExtCaps(caps: readonly FakeCap[]): void {
    let at = EXT_CAPS_AT;
    for (const [index, { id, bytes, writable }] of caps.entries()) {
      const next = (at + 4 + bytes.length + 3) & ~3;
      this.set(at, 4, id | (1 << 16) | ((index === caps.length - 1 ? 0 : next) << 20));
      this.config.set(bytes, at + 4);
      this.writable.set(writable ?? [], at + 4);
      at = next;
    }
  }
}
