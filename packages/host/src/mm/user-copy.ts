/* What the kernel does with memory of a process: copies in and out, and buffers for reads and writes. */
import { SystemError } from '../errors.js';
import type { Process } from '../process/process.js';
import { PAGE_SIZE } from './layout.js';
import type { UserMemory } from './user-access.js';
import { UserBuffer } from './user-buffer.js';
import { accessRange } from './user-range.js';
import { Vma } from './vma.js';

/** A buffer to be made over memory of a process. */
export interface UserBufferRequest {
  readonly addr: bigint;
  readonly length: number;
  /** The memory will be written to. */
  readonly write: boolean;
  readonly process: Process | undefined;
}

/** Copies bytes in; EFAULT when one is not accessible. */
export function copyFromUser(memory: UserMemory, addr: bigint, length: number): Uint8Array {
  const start = accessRange(addr, length);
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const part = memory.reach(start + done, length - done, false);
    if (typeof part === 'string') throw efault(start + done);
    if (part instanceof Vma) {
      done += copyRegisters(part, start + done, bytes.subarray(done), false);
    } else {
      bytes.set(part, done);
      done += part.length;
    }
  }
  return bytes;
}

/** Copies bytes out; EFAULT when one is not accessible, with those before it written. */
export function copyToUser(memory: UserMemory, addr: bigint, bytes: Uint8Array): void {
  const start = accessRange(addr, bytes.length);
  for (let done = 0; done < bytes.length; ) {
    const part = memory.reach(start + done, bytes.length - done, true);
    if (typeof part === 'string') throw efault(start + done);
    if (part instanceof Vma) {
      done += copyRegisters(part, start + done, bytes.subarray(done), true);
    } else {
      part.set(bytes.subarray(done, done + part.length));
      done += part.length;
    }
  }
}

/** Makes a buffer: in place where the memory is contiguous, else a copy of it that is written back. */
export function bufferOverUser(memory: UserMemory, request: UserBufferRequest): UserBuffer {
  const { addr, length, write, process } = request;
  const start = accessRange(addr, length);
  const first = length > 0 ? memory.reach(start, length, write) : 'SIGSEGV';
  if (typeof first === 'string') return new UserBuffer(length, new Uint8Array(0), process);
  const inPlace = first instanceof Vma ? 0 : first.length;
  if (!(first instanceof Vma)) {
    const whole = inPlace === length || typeof memory.reach(start + inPlace, 1, write) === 'string';
    if (whole) return new UserBuffer(length, first, process);
  }
  const copy = new Uint8Array(accessiblePrefix(memory, start, length, write));
  if (write) return new UserBuffer(length, copy, process, (filled) => copyToUser(memory, addr, filled));
  copy.set(copyFromUser(memory, addr, copy.length));
  return new UserBuffer(length, copy, process);
}

/** How many of `length` bytes can be accessed without a fault. */
function accessiblePrefix(memory: UserMemory, start: number, length: number, write: boolean): number {
  let done = 0;
  while (done < length) {
    const part = memory.reach(start + done, length - done, write);
    if (typeof part === 'string') break;
    done += part instanceof Vma ? Math.min(length - done, PAGE_SIZE - ((start + done) % PAGE_SIZE)) : part.length;
  }
  return done;
}

/** Copies from or to registers up to the end of the page, in the widest accesses that are aligned; how many bytes. */
function copyRegisters(vma: Vma, address: number, bytes: Uint8Array, write: boolean): number {
  const length = Math.min(bytes.length, PAGE_SIZE - (address % PAGE_SIZE));
  for (let done = 0; done < length; ) {
    const at = address + done;
    const size = ([8, 4, 2] as const).find((width) => at % width === 0 && width <= length - done) ?? 1;
    const part = bytes.subarray(done, done + size);
    if (write) {
      const value = part.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
      if (vma.file?.mapping.store?.(at - vma.base, size, value) === 'SIGBUS') throw efault(at);
    } else {
      const value = vma.file?.mapping.load?.(at - vma.base, size) ?? 'SIGBUS';
      if (value === 'SIGBUS') throw efault(at);
      for (let i = 0; i < size; i++) part[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    }
    done += size;
  }
  return length;
}

function efault(address: number): SystemError {
  return new SystemError('EFAULT', `0x${address.toString(16)} is not accessible`);
}
