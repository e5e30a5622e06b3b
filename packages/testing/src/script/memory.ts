// Memory of a script process: buffers for its system calls, and the accesses of its own instructions.

import { type ByteOrder, PAGE_SIZE, type Process, Prot } from '@vfio/host';
import type { ScalarSize } from './scalar.js';
import { swapBytes } from './scalar.js';

/** Why an access did not happen. */
export type Fault = 'SIGBUS' | 'SIGSEGV' | 'nomap';

/** What an access gave: a number in the order of the process, or why there is none. */
export type Access = { readonly value: bigint } | { readonly fault: Fault };

/** Nothing is mapped below; an address there belongs to an area whose mapping failed. */
const LOWEST_AREA = 1n << 30n;

/** The memory of one script process. */
export class ScriptMemory {
  readonly #process: Process;
  /** The buffer of the last call, with its inaccessible page. */
  #guard: { readonly address: bigint; readonly length: number } | undefined;

  /**
   * @param from - memory of the parent: the child has a copy of its buffer too
   */
  constructor(process: Process, from?: ScriptMemory) {
    this.#process = process;
    if (from) this.#guard = from.#guard;
  }

  get #order(): ByteOrder {
    return this.#process.byteOrder;
  }

  /**
   * Makes a zeroed buffer that ends exactly at an inaccessible page. It lasts until the next one is made.
   *
   * @param length - bytes
   * @returns its address
   */
  guarded(length: number): bigint {
    const body = Math.max(1, Math.ceil(length / PAGE_SIZE)) * PAGE_SIZE;
    const { mm } = this.#process;
    if (this.#guard) mm.munmap(this.#guard.address, this.#guard.length);
    this.#guard = undefined;
    const address = mm.mmap({ length: body + PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    this.#guard = { address, length: body + PAGE_SIZE };
    mm.mprotect(address + BigInt(body), PAGE_SIZE, Prot.NONE);
    return address + BigInt(body - length);
  }

  /** As {@link guarded}, with bytes in it. */
  placed(bytes: Uint8Array): bigint {
    const address = this.guarded(bytes.length);
    if (bytes.length > 0) this.#process.mm.copyTo(address, bytes);
    return address;
  }

  /** Bytes of a buffer that is known to be there, as a copy. */
  read(address: bigint, length: number): Uint8Array {
    return length === 0 ? new Uint8Array(0) : this.#process.mm.copyFrom(address, length);
  }

  /** One load, as `peek` and `awaitmem` do it. */
  load(address: bigint, size: ScalarSize): Access {
    const at = BigInt.asUintN(64, address);
    if (at < LOWEST_AREA) return { fault: 'nomap' };
    try {
      return { value: this.#process.mm.load(at, size) };
    } catch (error) {
      return { fault: faultOf(error) };
    }
  }

  /** One store, as `poke` does it; the fault, if there was one. */
  store(address: bigint, size: ScalarSize, value: bigint): Fault | undefined {
    const at = BigInt.asUintN(64, address);
    if (at < LOWEST_AREA) return 'nomap';
    try {
      this.#process.mm.store(at, size, BigInt.asUintN(8 * size, value));
      return undefined;
    } catch (error) {
      return faultOf(error);
    }
  }

  /**
   * Stores bytes with as few accesses as alignment allows, without a handler for faults.
   *
   * @throws SegmentationFault - a byte is not accessible: the process dies of it
   */
  storeBytes(address: bigint, bytes: Uint8Array): void {
    const { mm } = this.#process;
    for (const { offset, size } of accesses(address, bytes.length)) {
      mm.store(address + BigInt(offset), size, this.#join(bytes.subarray(offset, offset + size)));
    }
  }

  /**
   * Loads bytes with as few accesses as alignment allows, without a handler for faults.
   *
   * @throws SegmentationFault - a byte is not accessible: the process dies of it
   */
  loadBytes(address: bigint, length: number): Uint8Array {
    const { mm } = this.#process;
    const bytes = new Uint8Array(length);
    for (const { offset, size } of accesses(address, length)) {
      bytes.set(this.#split(mm.load(address + BigInt(offset), size), size), offset);
    }
    return bytes;
  }

  #join(bytes: Uint8Array): bigint {
    let value = 0n;
    for (const byte of bytes) value = (value << 8n) | BigInt(byte);
    return this.#order === 'big' ? value : swapBytes(value, accessSize(bytes.length));
  }

  #split(value: bigint, size: ScalarSize): Uint8Array {
    let rest = this.#order === 'big' ? swapBytes(value, size) : value;
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) {
      bytes[i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    return bytes;
  }
}

function* accesses(address: bigint, length: number): Generator<{ offset: number; size: ScalarSize }> {
  let offset = 0;
  while (offset < length) {
    const at = address + BigInt(offset);
    const left = length - offset;
    let size: ScalarSize = 1;
    if (at % 8n === 0n && left >= 8) size = 8;
    else if (at % 4n === 0n && left >= 4) size = 4;
    else if (at % 2n === 0n && left >= 2) size = 2;
    yield { offset, size };
    offset += size;
  }
}

function accessSize(length: number): ScalarSize {
  return length === 8 || length === 4 || length === 2 ? length : 1;
}

/** The signal of a load or store that failed, whichever copy of the host package threw it; undefined for anything else. */
export function faultSignal(error: unknown): 'SIGBUS' | 'SIGSEGV' | undefined {
  if (!(error instanceof Error) || error.name !== 'SegmentationFault' || !('signal' in error)) return undefined;
  return error.signal === 'SIGBUS' ? 'SIGBUS' : 'SIGSEGV';
}

function faultOf(error: unknown): Fault {
  const signal = faultSignal(error);
  if (signal) return signal;
  throw error;
}
