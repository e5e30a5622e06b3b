/*
 * A function as hardware has it: what every function does by itself, whatever its device is. It decodes its BARs as its command
 * register and its power state say, comes back from resets as the specification of PCI says, and gates interrupts and DMA.
 */
import type { PciFunction, PciPort, PciWidth } from '../bus/function.js';
import {
  BaseAddress,
  CFG_SPACE_EXP_SIZE,
  CFG_SPACE_SIZE,
  Command,
  HeaderType,
  Reg,
  ResourceIndex,
  RomAddress,
  Status,
} from '../bus/regs.js';
import { Bar, type BarDevice, type BarOptions } from './bar.js';
import type { Msi } from './capabilities/msi.js';
import type { Msix } from './capabilities/msix.js';
import type { SriovCapability } from './capabilities/sriov.js';
import { CapabilityList } from './capability-list.js';
import { ConfigSpace } from './config-space.js';
import { dmaOf, type FunctionDma } from './function-dma.js';

/** How a function is reset. 'soft' is what leaving D3hot does when there is no bit that says otherwise. */
export type ResetKind = 'bus' | 'flr' | 'soft';

/** What answers at the legacy addresses of a display, which do not move. */
export interface LegacyDevice {
  read(space: 'memory' | 'io', address: number, width: PciWidth): number;
  write(space: 'memory' | 'io', address: number, width: PciWidth, value: number): void;
}

/** Who a function says that it is. */
export interface FunctionOptions {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor?: number;
  readonly subsystemId?: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  readonly revision?: number;
  /** Interrupt pin, 1 to 4; 0, the default: none. */
  readonly pin?: number;
  readonly multifunction?: boolean;
  /** Config space of 4096 bytes. */
  readonly extended?: boolean;
}

/** Bits of the command register that every function has. */
const COMMAND_BITS =
  Command.IO | Command.MEMORY | Command.MASTER | Command.PARITY | Command.SERR | Command.INTX_DISABLE;
const STATUS_CLEARABLE =
  Status.PARITY |
  Status.SIG_TARGET_ABORT |
  Status.REC_TARGET_ABORT |
  Status.REC_MASTER_ABORT |
  Status.SIG_SYSTEM_ERROR |
  Status.DETECTED_PARITY;
const HEADER_BARS = 6;
const ONES: Readonly<Record<PciWidth, number>> = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff };
const ALL_ONES = 2n ** 64n - 1n;

/** A function on a bus; devices are made of one by what is behind its BARs, or as subclasses. */
export class EmulatedFunction implements PciFunction {
  readonly config: ConfigSpace;
  readonly configSize: number;
  readonly capabilities: CapabilityList;
  /** Memory beyond its bus, as it can reach it at the moment. */
  readonly dma: FunctionDma;
  /** Its message interrupts, if it has the capability. */
  msi: Msi | undefined;
  msix: Msix | undefined;
  sriov: SriovCapability | undefined;
  platformRom?: Uint8Array;
  /** What is at the addresses of a display. */
  legacy: LegacyDevice | undefined;
  readonly #bars: (Bar | undefined)[] = new Array<Bar | undefined>(ResourceIndex.ROM + 1).fill(undefined);
  readonly #resets: ((kind: ResetKind) => void)[] = [];
  readonly #powerOffs: (() => void)[] = [];
  #port: PciPort | undefined;
  #present = true;
  /** In D0, that is: it decodes and may use the bus. */
  #powered = true;
  #memoryDecoded = false;
  #ioDecoded = false;
  #intx = false;
  #romRegister: number = Reg.ROM_ADDRESS;

  constructor(options: FunctionOptions) {
    this.configSize = options.extended ? CFG_SPACE_EXP_SIZE : CFG_SPACE_SIZE;
    this.config = new ConfigSpace(this.configSize);
    this.capabilities = new CapabilityList(this.config);
    this.dma = dmaOf(this);
    this.#header(options);
    this.config.hook(Reg.COMMAND, { written: () => this.updateDecoding() });
  }

  /** Its side of the bus, while it is in a slot. */
  get port(): PciPort | undefined {
    return this.#port;
  }

  /** Whether it may start cycles of its own: messages and DMA. */
  get isBusMaster(): boolean {
    return this.#powered && this.#present && (this.config.get(Reg.COMMAND, 2) & Command.MASTER) !== 0;
  }

  /** Whether it is in D0. */
  get powered(): boolean {
    return this.#powered;
  }

  /** Whether it decodes memory. Virtual functions ask their physical one. */
  protected get memorySpace(): boolean {
    return (this.config.get(Reg.COMMAND, 2) & Command.MEMORY) !== 0;
  }

  /**
   * Adds a BAR.
   *
   * @param index - 0 to 5
   * @throws RangeError - its size is no power of two, or it has no second half
   */
  addBar(index: number, options: BarOptions, device: BarDevice): Bar {
    const { size, space, wide = false, prefetch = false } = options;
    if (!isPowerOfTwo(size) || index + (wide ? 1 : 0) >= HEADER_BARS)
      throw new RangeError(`BAR ${index} of ${size} bytes`);
    const register = Reg.BASE_ADDRESS_0 + 4 * index;
    const bits =
      space === 'io'
        ? BaseAddress.SPACE_IO
        : (wide ? BaseAddress.MEM_TYPE_64 : 0) | (prefetch ? BaseAddress.MEM_PREFETCH : 0);
    const mask = -BigInt(size);
    const bar = new Bar(options, device);
    this.config.set(register, 4, bits);
    const addressBits = space === 'io' ? BaseAddress.IO_MASK : BaseAddress.MEM_MASK;
    this.config.allow(register, 4, options.ioMask ?? (Number(mask & 0xffff_ffffn) & addressBits) >>> 0);
    if (wide) {
      this.config.set(register + 4, 4, 0);
      this.config.allow(register + 4, 4, Number((mask >> 32n) & 0xffff_ffffn));
    }
    this.#bars[index] = bar;
    return bar;
  }

  /**
   * Adds a ROM, whose BAR is as large as the next power of two, or larger.
   *
   * @param register - where its BAR is; bridges have it elsewhere
   */
  addRom(device: BarDevice, size: number, register: number = Reg.ROM_ADDRESS): void {
    if (!isPowerOfTwo(size)) throw new RangeError(`ROM of ${size} bytes`);
    this.config.set(register, 4, 0);
    this.config.allow(register, 4, ((-size & RomAddress.MASK) | RomAddress.ENABLE) >>> 0);
    this.#bars[ResourceIndex.ROM] = new Bar({ size, space: 'memory' }, device);
    this.#romRegister = register;
  }

  /**
   * The BAR of an index.
   *
   * @throws RangeError - it has none
   */
  bar(index: number): Bar {
    const bar = this.#bars[index];
    if (!bar) throw new RangeError(`no BAR ${index}`);
    return bar;
  }

  /** Whether it has a BAR of an index. */
  hasBar(index: number): boolean {
    return this.#bars[index] !== undefined;
  }

  /** Calls somebody when it has been reset, after its registers are. */
  onReset(callback: (kind: ResetKind) => void): void {
    this.#resets.push(callback);
  }

  /** Calls somebody when it is taken out of its slot. */
  onPowerOff(callback: () => void): void {
    this.#powerOffs.push(callback);
  }

  readConfig(offset: number, width: PciWidth): number {
    return this.#present ? this.config.read(offset, width) : ONES[width];
  }

  writeConfig(offset: number, width: PciWidth, value: number): void {
    if (this.#present) this.config.write(offset, width, value);
  }

  readBar(bar: number, offset: number, width: PciWidth): number {
    const decoder = this.#decoder(bar);
    return decoder === undefined ? ONES[width] : decoder.read(offset, width);
  }

  writeBar(bar: number, offset: number, width: PciWidth, value: number): void {
    this.#decoder(bar)?.write(offset, width, value);
  }

  readBar64(bar: number, offset: number): bigint {
    return this.#decoder(bar)?.read64(offset) ?? ALL_ONES;
  }

  writeBar64(bar: number, offset: number, value: bigint): void {
    this.#decoder(bar)?.write64(offset, value);
  }

  readLegacy(space: 'memory' | 'io', address: number, width: PciWidth): number {
    return this.#legacyDecoder(space)?.read(space, address, width) ?? ONES[width];
  }

  writeLegacy(space: 'memory' | 'io', address: number, width: PciWidth, value: number): void {
    this.#legacyDecoder(space)?.write(space, address, width, value);
  }

  virtualFunction(index: number): PciFunction | undefined {
    return this.sriov?.at(index);
  }

  /** Asserts the interrupt pin, or lets go of it. The disable bit decides whether anybody notices. */
  setIntx(asserted: boolean): void {
    this.#intx = asserted;
    this.config.putBits(Reg.STATUS, 2, Status.INTERRUPT, asserted ? Status.INTERRUPT : 0);
    this.#updatePin();
  }

  /** Enters or leaves D0. The registers of that are the power management capability's. */
  setPowered(powered: boolean): void {
    this.#powered = powered;
    this.updateDecoding();
  }

  /** Looks again what it decodes, and whether its pin is let out. */
  updateDecoding(): void {
    const on = this.#powered && this.#present;
    this.#memoryDecoded = on && this.memorySpace;
    this.#ioDecoded = on && (this.config.get(Reg.COMMAND, 2) & Command.IO) !== 0;
    this.sriov?.updateDecoding();
    this.#updatePin();
  }

  /** Comes back as it was at power on, but for what survives. */
  reset(kind: ResetKind): void {
    this.config.reset();
    this.#powered = true;
    this.setIntx(false);
    this.updateDecoding();
    for (const callback of this.#resets) callback(kind);
  }

  busReset(): void {
    this.reset('bus');
  }

  plug(port: PciPort): void {
    this.#port = port;
    this.setPresent(true);
  }

  unplug(): void {
    this.setPresent(false);
    this.#port = undefined;
  }

  /** Whether it answers at all. When it does no more, whatever it was doing ends. */
  protected setPresent(present: boolean): void {
    this.#present = present;
    this.updateDecoding();
    if (!present) for (const callback of this.#powerOffs) callback();
  }

  #legacyDecoder(space: 'memory' | 'io'): LegacyDevice | undefined {
    return (space === 'io' ? this.#ioDecoded : this.#memoryDecoded) ? this.legacy : undefined;
  }

  #decoder(index: number): Bar | undefined {
    const bar = this.#bars[index];
    if (bar === undefined || !(bar.options.space === 'io' ? this.#ioDecoded : this.#memoryDecoded)) return undefined;
    if (index === ResourceIndex.ROM && (this.config.get(this.#romRegister, 1) & RomAddress.ENABLE) === 0)
      return undefined;
    return bar;
  }

  #updatePin(): void {
    const disabled = (this.config.get(Reg.COMMAND, 2) & Command.INTX_DISABLE) !== 0;
    if (this.#intx && !disabled && this.#powered && this.#present) this.#port?.raiseIntx();
    else this.#port?.lowerIntx();
  }

  #header(options: FunctionOptions): void {
    const { config } = this;
    config.set(Reg.VENDOR_ID, 2, options.vendor);
    config.set(Reg.DEVICE_ID, 2, options.device);
    config.set(Reg.REVISION_ID, 4, ((options.classCode << 8) | (options.revision ?? 0)) >>> 0);
    config.set(Reg.HEADER_TYPE, 1, options.multifunction ? HeaderType.MFD : HeaderType.NORMAL);
    config.set(Reg.SUBSYSTEM_VENDOR_ID, 2, options.subsystemVendor ?? 0);
    config.set(Reg.SUBSYSTEM_ID, 2, options.subsystemId ?? 0);
    config.set(Reg.INTERRUPT_PIN, 1, options.pin ?? 0);
    config.allow(Reg.COMMAND, 2, COMMAND_BITS);
    config.clearOnOne(Reg.STATUS, 2, STATUS_CLEARABLE);
    config.allow(Reg.CACHE_LINE_SIZE, 1, 0xff);
    config.allow(Reg.INTERRUPT_LINE, 1, 0xff);
  }
}

function isPowerOfTwo(size: number): boolean {
  return size > 0 && Number.isInteger(Math.log2(size));
}
