/*
 * What is behind a BAR: something that answers cycles, and pieces of it that answer for themselves (an MSI-X table).
 */
import type { PciWidth } from '../bus/function.js';

/** Answers cycles, naturally aligned, by offset from the start of the BAR. */
export interface BarDevice {
  read(offset: number, width: PciWidth): number;
  write(offset: number, width: PciWidth, value: number): void;
  /** Eight bytes in one cycle; two of four when absent, low half first. */
  read64?(offset: number): bigint;
  write64?(offset: number, value: bigint): void;
}

/** What a BAR asks for. */
export interface BarOptions {
  /** Bytes, a power of two. */
  readonly size: number;
  readonly space: 'memory' | 'io';
  /** It takes the next BAR for the upper half of its address. */
  readonly wide?: boolean;
  readonly prefetch?: boolean;
  /** Ports only: bits of the register that can be written, when those are not all above the size. */
  readonly ioMask?: number;
}

const DWORD = 32n;
const LOW = 0xffff_ffffn;

/** A BAR of a function. */
export class Bar {
  readonly options: BarOptions;
  readonly #device: BarDevice;
  #pieces: { readonly offset: number; readonly end: number; readonly device: BarDevice }[] = [];

  constructor(options: BarOptions, device: BarDevice) {
    this.options = options;
    this.#device = device;
  }

  /** Another device answers at these offsets, counted from the start of the piece. */
  overlay(offset: number, length: number, device: BarDevice): void {
    this.#pieces = [...this.#pieces, { offset, end: offset + length, device }];
  }

  read(offset: number, width: PciWidth): number {
    for (const piece of this.#pieces) {
      if (offset >= piece.offset && offset < piece.end) return piece.device.read(offset - piece.offset, width);
    }
    return this.#device.read(offset, width);
  }

  write(offset: number, width: PciWidth, value: number): void {
    for (const piece of this.#pieces) {
      if (offset >= piece.offset && offset < piece.end) {
        piece.device.write(offset - piece.offset, width, value);
        return;
      }
    }
    this.#device.write(offset, width, value);
  }

  read64(offset: number): bigint {
    if (this.#pieces.length === 0 && this.#device.read64) return this.#device.read64(offset);
    return BigInt(this.read(offset, 4)) | (BigInt(this.read(offset + 4, 4)) << DWORD);
  }

  write64(offset: number, value: bigint): void {
    if (this.#pieces.length === 0 && this.#device.write64) {
      this.#device.write64(offset, value);
      return;
    }
    this.write(offset, 4, Number(value & LOW));
    this.write(offset + 4, 4, Number((value >> DWORD) & LOW));
  }
}

/** Plain memory behind a BAR; what it has not takes nothing, and reads as zero. */
export class MemoryBar implements BarDevice {
  readonly bytes: Uint8Array;

  /** @param bytes - how many, or the memory itself */
  constructor(bytes: number | Uint8Array) {
    this.bytes = typeof bytes === 'number' ? new Uint8Array(bytes) : bytes;
  }

  read(offset: number, width: PciWidth): number {
    const { bytes } = this;
    let value = 0;
    for (let byte = 0; byte < width; byte++) value |= (bytes[offset + byte] ?? 0) << (8 * byte);
    return value >>> 0;
  }

  write(offset: number, width: PciWidth, value: number): void {
    const { bytes } = this;
    for (let byte = 0; byte < width; byte++) bytes[offset + byte] = value >>> (8 * byte);
  }
}

/** A BAR that takes everything and says zero, as reserved registers do. */
export const reservedBar: BarDevice = { read: () => 0, write: () => undefined };
