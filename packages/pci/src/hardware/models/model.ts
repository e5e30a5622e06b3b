/*
 * What is behind the BARs of known devices.
 */
import type { PciWidth } from '../../bus/function.js';
import type { BarDevice } from '../bar.js';
import type { EmulatedFunction, LegacyDevice, ResetKind } from '../function.js';

/** What a model is made for. */
export interface ModelContext {
  readonly fn: EmulatedFunction;
  /** Bytes of a BAR; 0: there is none. */
  sizeOf(bar: number): number;
  /** What somebody has read in a BAR, as register values from the beginning. */
  initial(bar: number): Uint8Array;
}

/** A device. */
export interface DeviceModel {
  /** By number; a BAR without a device is plain memory. */
  readonly bars: Readonly<Record<number, BarDevice>>;
  readonly legacy?: LegacyDevice;
  reset?(kind: ResetKind): void;
  powerOff?(): void;
}

/** Makes the device of a function. */
export type MakeModel = (context: ModelContext) => DeviceModel;

/** Registers of 32 bits, of which some do something. */
export class RegisterBar implements BarDevice {
  readonly view: DataView<ArrayBuffer>;
  readonly #initial: Uint8Array;
  readonly #reads = new Map<number, () => number>();
  readonly #writes = new Map<number, (value: number) => void>();

  /** @param initial - what registers have from their beginning */
  constructor(size: number, initial: Uint8Array = new Uint8Array()) {
    this.view = new DataView(new ArrayBuffer(size));
    this.#initial = initial;
    this.reset();
  }

  /** A register says what this returns. */
  onRead(offset: number, read: () => number): void {
    this.#reads.set(offset, read);
  }

  /** A register does this with what is written, and keeps nothing. */
  onWrite(offset: number, write: (value: number) => void): void {
    this.#writes.set(offset, write);
  }

  get(offset: number): number {
    return this.view.getUint32(offset, true);
  }

  set(offset: number, value: number): void {
    this.view.setUint32(offset, value >>> 0, true);
  }

  /** Registers have their first values. */
  reset(): void {
    const bytes = new Uint8Array(this.view.buffer);
    bytes.fill(0);
    bytes.set(this.#initial.subarray(0, bytes.length));
  }

  read(offset: number, width: PciWidth): number {
    const register = offset & ~3;
    if (register + 4 > this.view.byteLength) return 0;
    const value = this.#reads.get(register)?.() ?? this.get(register);
    const shifted = value >>> (8 * (offset & 3));
    return width === 4 ? value >>> 0 : shifted & (width === 2 ? 0xffff : 0xff);
  }

  write(offset: number, width: PciWidth, value: number): void {
    const register = offset & ~3;
    if (register + 4 > this.view.byteLength) return;
    const shift = 8 * (offset & 3);
    const lanes = width === 4 ? 0xffff_ffff : ((2 ** (8 * width) - 1) << shift) >>> 0;
    const whole = ((this.get(register) & ~lanes) | ((value << shift) & lanes)) >>> 0;
    const write = this.#writes.get(register);
    if (write) write(whole);
    else this.set(register, whole);
  }
}
