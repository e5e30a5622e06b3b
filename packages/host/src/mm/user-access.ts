/* Loads and stores of a CPU: memory byte by byte in the process's order, registers in one access each. */
import { type ByteOrder, PAGE_SIZE } from './layout.js';
import { type AccessSize, SegmentationFault } from './mapping.js';
import { Vma } from './vma.js';

/** What an access meets: bytes in place, a device, or a signal. */
export type Reached = Uint8Array | Vma | 'SIGSEGV' | 'SIGBUS';

/** Memory that an access goes to. */
export interface UserMemory {
  /** What is at an address, with the page made present; of bytes at most `max` and at least one. */
  reach(address: number, max: number, write: boolean): Reached;
}

/** One load; the result is in the process's byte order. */
export function loadMemory(memory: UserMemory, addr: bigint, size: AccessSize, order: ByteOrder): bigint {
  const address = toAddress(addr);
  const first = reach(memory, address, size, false);
  if (first instanceof Vma) {
    reachNextPage(memory, address, size, false);
    const value = first.file?.mapping.load?.(address - first.base, size) ?? 'SIGBUS';
    if (value === 'SIGBUS') throw new SegmentationFault('SIGBUS', addr);
    return order === 'little' ? value : swap(value, size);
  }
  const bytes = first.length === size ? first : gather(memory, address, size, first);
  let value = 0n;
  for (let i = 0; i < size; i++) value = (value << 8n) | BigInt(bytes[order === 'big' ? i : size - 1 - i] ?? 0);
  return value;
}

/** One store. */
export function storeMemory(memory: UserMemory, addr: bigint, size: AccessSize, value: bigint, order: ByteOrder): void {
  const address = toAddress(addr);
  const first = reach(memory, address, size, true);
  const masked = BigInt.asUintN(size * 8, value);
  if (first instanceof Vma) {
    reachNextPage(memory, address, size, true);
    const wire = order === 'little' ? masked : swap(masked, size);
    if (first.file?.mapping.store?.(address - first.base, size, wire) === 'SIGBUS') {
      throw new SegmentationFault('SIGBUS', addr);
    }
    return;
  }
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++)
    bytes[order === 'little' ? i : size - 1 - i] = Number((masked >> BigInt(8 * i)) & 0xffn);
  if (first.length === size) {
    first.set(bytes);
    return;
  }
  // Both halves must be there before either is written: a store happens or faults as a whole.
  const second = reach(memory, address + first.length, size - first.length, true);
  first.set(bytes.subarray(0, first.length));
  if (second instanceof Vma) storeBytes(second, address + first.length, bytes.subarray(first.length));
  else second.set(bytes.subarray(first.length));
}

function gather(memory: UserMemory, address: number, size: number, first: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(first);
  const second = reach(memory, address + first.length, size - first.length, false);
  if (second instanceof Vma) loadBytes(second, address + first.length, bytes.subarray(first.length));
  else bytes.set(second, first.length);
  return bytes;
}

/** An access that straddles pages of a device has both of them faulted in. */
function reachNextPage(memory: UserMemory, address: number, size: number, write: boolean): void {
  const toPageEnd = PAGE_SIZE - (address % PAGE_SIZE);
  if (toPageEnd < size) reach(memory, address + toPageEnd, size - toPageEnd, write);
}

function loadBytes(vma: Vma, address: number, into: Uint8Array): void {
  for (let i = 0; i < into.length; i++) {
    const value = vma.file?.mapping.load?.(address + i - vma.base, 1) ?? 'SIGBUS';
    if (value === 'SIGBUS') throw new SegmentationFault('SIGBUS', BigInt(address + i));
    into[i] = Number(value);
  }
}

function storeBytes(vma: Vma, address: number, from: Uint8Array): void {
  from.forEach((byte, i) => {
    if (vma.file?.mapping.store?.(address + i - vma.base, 1, BigInt(byte)) === 'SIGBUS') {
      throw new SegmentationFault('SIGBUS', BigInt(address + i));
    }
  });
}

/** As the memory says, with a signal thrown. */
function reach(memory: UserMemory, address: number, max: number, write: boolean): Uint8Array | Vma {
  const reached = memory.reach(address, max, write);
  if (typeof reached === 'string') throw new SegmentationFault(reached, BigInt(address));
  return reached;
}

function toAddress(addr: bigint): number {
  if (addr < 0n || addr >= 1n << 47n) throw new SegmentationFault('SIGSEGV', addr);
  return Number(addr);
}

function swap(value: bigint, size: AccessSize): bigint {
  let result = 0n;
  for (let i = 0; i < size; i++) result = (result << 8n) | ((value >> BigInt(8 * i)) & 0xffn);
  return result;
}
