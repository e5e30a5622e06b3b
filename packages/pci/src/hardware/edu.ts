/*
 * QEMU's educational device: it computes factorials, copies between memory and a buffer of its own, and interrupts when told to.
 * As QEMU's it has no reset of its own: registers of the device keep what they have when its config space is reset.
 */
import type { PciWidth } from '../bus/function.js';
import type { BarDevice } from './bar.js';
import { addMsi } from './capabilities/msi.js';
import { EmulatedFunction } from './function.js';
import { Later } from './later.js';

/** Its registers. Source: docs/specs/edu.rst of QEMU */
export const EduReg = {
  ID: 0x00,
  LIVENESS: 0x04,
  FACTORIAL: 0x08,
  STATUS: 0x20,
  INT_STATUS: 0x24,
  INT_RAISE: 0x60,
  INT_ACK: 0x64,
  DMA_SRC: 0x80,
  DMA_DST: 0x88,
  DMA_COUNT: 0x90,
  DMA_CMD: 0x98,
} as const;

/** Bits of its status register. */
export const EduStatus = { COMPUTING: 0x01, IRQ_FACTORIAL: 0x80 } as const;
/** Bits of its DMA command. */
export const EduDma = { RUN: 0x1n, FROM_DEVICE: 0x2n, IRQ: 0x4n } as const;

/** Where its buffer is, by its own addresses. */
export const EDU_BUFFER = 0x40000;
const BUFFER_BYTES = 4096;
const ID = 0x0100_00ed;
const IRQ_FACTORIAL = 0x001;
const IRQ_DMA = 0x100;
/** It reaches 28 bits of memory. */
const DMA_MASK = 0xfff_ffffn;
const FIRST_WIDE = 0x80;
const BAR_BYTES = 0x10_0000;
const NOTHING = 0xffff_ffff;
const NOTHING_WIDE = 2n ** 64n - 1n;
const LOW = 0xffff_ffffn;

/** What can be chosen about it. */
export interface EduOptions {
  readonly multifunction?: boolean;
  readonly subsystemVendor?: number;
  readonly subsystemId?: number;
  /** Bits of addresses that its DMA keeps; 28 of them by default. */
  readonly dmaMask?: bigint;
}

/** The device behind the BAR. */
export class EduDevice implements BarDevice {
  readonly buffer = new Uint8Array(BUFFER_BYTES);
  readonly #fn: EmulatedFunction;
  readonly #dmaMask: bigint;
  readonly #later = new Later();
  #liveness = 0;
  #factorial = 0;
  #status = 0;
  #interrupts = 0;
  #source = 0n;
  #destination = 0n;
  #count = 0n;
  #command = 0n;

  constructor(fn: EmulatedFunction, dmaMask = DMA_MASK) {
    this.#fn = fn;
    this.#dmaMask = dmaMask;
  }

  read(offset: number, width: PciWidth): number {
    if (width !== 4) return NOTHING;
    switch (offset) {
      case EduReg.ID:
        return ID;
      case EduReg.LIVENESS:
        return this.#liveness;
      case EduReg.FACTORIAL:
        return this.#factorial;
      case EduReg.STATUS:
        return this.#status;
      case EduReg.INT_STATUS:
        return this.#interrupts;
      default:
        return Number(this.#readWide(offset) & LOW);
    }
  }

  read64(offset: number): bigint {
    return offset < FIRST_WIDE ? NOTHING_WIDE : this.#readWide(offset);
  }

  write(offset: number, width: PciWidth, value: number): void {
    if (width !== 4) return;
    switch (offset) {
      case EduReg.LIVENESS:
        this.#liveness = ~value >>> 0;
        break;
      case EduReg.FACTORIAL:
        this.#startFactorial(value);
        break;
      case EduReg.STATUS:
        this.#status = (this.#status & ~EduStatus.IRQ_FACTORIAL) | (value & EduStatus.IRQ_FACTORIAL);
        break;
      case EduReg.INT_RAISE:
        this.#raise(value);
        break;
      case EduReg.INT_ACK:
        this.#acknowledge(value);
        break;
      default:
        this.#writeWide(offset, BigInt(value));
    }
  }

  write64(offset: number, value: bigint): void {
    if (offset >= FIRST_WIDE) this.#writeWide(offset, value);
  }

  /** It has no power any more: whatever it does ends, and nothing is left. */
  powerOff(): void {
    this.#later.cancel();
    this.#liveness = this.#factorial = this.#status = this.#interrupts = 0;
    this.#source = this.#destination = this.#count = this.#command = 0n;
    this.buffer.fill(0);
  }

  /** What it was told to do until now is done. */
  async settled(): Promise<void> {
    await this.#later.settled();
  }

  #readWide(offset: number): bigint {
    switch (offset) {
      case EduReg.DMA_SRC:
        return this.#source;
      case EduReg.DMA_DST:
        return this.#destination;
      case EduReg.DMA_COUNT:
        return this.#count;
      case EduReg.DMA_CMD:
        return this.#command;
      default:
        return NOTHING_WIDE;
    }
  }

  /** A transfer that runs keeps its registers as they are. */
  #writeWide(offset: number, value: bigint): void {
    if ((this.#command & EduDma.RUN) !== 0n) return;
    if (offset === EduReg.DMA_SRC) this.#source = value;
    else if (offset === EduReg.DMA_DST) this.#destination = value;
    else if (offset === EduReg.DMA_COUNT) this.#count = value;
    else if (offset === EduReg.DMA_CMD && (value & EduDma.RUN) !== 0n) {
      this.#command = value;
      this.#later.run(async (ended) => await this.#transfer(ended));
    }
  }

  #startFactorial(value: number): void {
    if ((this.#status & EduStatus.COMPUTING) !== 0) return;
    this.#factorial = value;
    this.#status |= EduStatus.COMPUTING;
    this.#later.run(() => {
      this.#factorial = factorialOf(this.#factorial);
      this.#status &= ~EduStatus.COMPUTING;
      if ((this.#status & EduStatus.IRQ_FACTORIAL) !== 0) this.#raise(IRQ_FACTORIAL);
    });
  }

  async #transfer(ended: () => boolean): Promise<void> {
    const outward = (this.#command & EduDma.FROM_DEVICE) !== 0n;
    const own = outward ? this.#source : this.#destination;
    const iova = (outward ? this.#destination : this.#source) & this.#dmaMask;
    const start = Number(own - BigInt(EDU_BUFFER));
    const count = Number(this.#count);
    // Differs: QEMU ends itself when a transfer leaves the buffer; a device can only do nothing.
    if (start >= 0 && count > 0 && start + count <= BUFFER_BYTES) {
      const bytes = this.buffer.subarray(start, start + count);
      if (outward) await this.#fn.dma.write(iova, bytes);
      else await this.#read(iova, bytes);
    }
    if (ended()) return;
    this.#command &= ~EduDma.RUN;
    if ((this.#command & EduDma.IRQ) !== 0n) this.#raise(IRQ_DMA);
  }

  /** What can not be read becomes zeros. */
  async #read(iova: bigint, into: Uint8Array): Promise<void> {
    const bytes = new Uint8Array(into.length);
    await this.#fn.dma.read(iova, bytes);
    into.set(bytes);
  }

  #raise(bits: number): void {
    this.#interrupts = (this.#interrupts | bits) >>> 0;
    if (this.#interrupts === 0) return;
    if (this.#fn.msi?.enabled) this.#fn.msi.fire(0);
    else this.#fn.setIntx(true);
  }

  #acknowledge(bits: number): void {
    this.#interrupts = (this.#interrupts & ~bits) >>> 0;
    if (this.#interrupts === 0 && !this.#fn.msi?.enabled) this.#fn.setIntx(false);
  }
}

/** The function around it. */
export class Edu extends EmulatedFunction {
  readonly device: EduDevice;

  constructor(options: EduOptions = {}) {
    const { subsystemVendor = 0x1af4, subsystemId = 0x1100, multifunction = false } = options;
    super({
      vendor: 0x1234,
      device: 0x11e8,
      revision: 0x10,
      classCode: 0x00_ff00,
      pin: 1,
      subsystemVendor,
      subsystemId,
      multifunction,
    });
    this.device = new EduDevice(this, options.dmaMask);
    this.addBar(0, { size: BAR_BYTES, space: 'memory' }, this.device);
    addMsi(this, { vectors: 1, wide: true });
    this.onPowerOff(() => this.device.powerOff());
  }
}

function factorialOf(value: number): number {
  let result = 1;
  for (let factor = value; factor > 0 && result !== 0; factor--) result = Math.imul(result, factor) >>> 0;
  return result;
}
