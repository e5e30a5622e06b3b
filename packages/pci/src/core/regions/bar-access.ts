/*
 * How read and write of a device file become cycles of the bus: as wide as alignment allows, around a part that the user may not
 * reach. Registers are read millions of times each second: the usual case neither waits nor makes anything.
 */
import { VfioError } from '@vfio/core';
import type { UserBuffer } from '@vfio/host';
import type { BarMapping } from '../../bus/resources.js';
import type { PciCoreDevice } from '../core-device.js';
import { memoryEnabled } from '../memory.js';

/** What can be accessed, and how. Offsets are bytes from its start. */
export interface IoRange {
  readonly mapping: Pick<BarMapping, 'read' | 'write' | 'read64' | 'write64'>;
  /** Bytes. */
  readonly length: number;
  /** It is memory, which answers only while it is enabled. */
  readonly testMem: boolean;
  /** What is not reached: reads give ones, writes are lost. Empty if both are the same. */
  readonly xStart: number;
  readonly xEnd: number;
  /** Whether eight bytes may be one cycle. */
  readonly wide: boolean;
}

/** What is read where nothing may be read. */
const EXCLUDED = 0xff;

/**
 * Reads `count` bytes into the beginning of a buffer, or writes them from there.
 *
 * @param offset - bytes from the start of the range
 * @returns bytes done: all of them
 * @throws EIO - memory is not enabled; what was done before stays done
 * @throws EFAULT - the buffer is not accessible
 * @source drivers/vfio/pci/vfio_pci_rdwr.c vfio_pci_core_do_io_rw()
 */
export function doIoRw(
  device: PciCoreDevice,
  io: IoRange,
  buffer: UserBuffer,
  offset: number,
  count: number,
  isWrite: boolean,
): number | Promise<number> {
  // Nobody can become a writer in the middle of what does not wait.
  if (io.testMem && device.memoryLock.writing) return transferLater(device, io, buffer, offset, count, isWrite);
  return transfer(device, io, buffer.bytes, offset, count, isWrite);
}

async function transferLater(
  device: PciCoreDevice,
  io: IoRange,
  buffer: UserBuffer,
  offset: number,
  count: number,
  isWrite: boolean,
): Promise<number> {
  using _held = await device.memoryLock.read();
  return transfer(device, io, buffer.bytes, offset, count, isWrite);
}

function transfer(
  device: PciCoreDevice,
  io: IoRange,
  bytes: Uint8Array,
  offset: number,
  count: number,
  isWrite: boolean,
): number {
  const { xStart, xEnd } = io;
  for (let done = 0; done < count; ) {
    const at = offset + done;
    const left = count - done;
    const fillable = at < xStart ? Math.min(left, xStart - at) : at >= xEnd ? left : 0;
    if (fillable === 0) {
      const skipped = Math.min(left, xEnd - at);
      if (!isWrite) fillExcluded(bytes, done, skipped);
      done += skipped;
      continue;
    }
    // An offset above 4 GB keeps its low bits here.
    const width =
      fillable >= 8 && io.wide && (at & 7) === 0
        ? 8
        : fillable >= 4 && (at & 3) === 0
          ? 4
          : fillable >= 2 && (at & 1) === 0
            ? 2
            : 1;
    if (isWrite) writeOne(device, io, bytes, at, done, width);
    else readOne(device, io, bytes, at, done, width);
    done += width;
  }
  return count;
}

function readOne(
  device: PciCoreDevice,
  { mapping, testMem }: IoRange,
  bytes: Uint8Array,
  at: number,
  done: number,
  width: 1 | 2 | 4 | 8,
): void {
  if (testMem && !memoryEnabled(device)) throw disabled(device);
  if (width === 8) {
    const value = mapping.read64(at);
    if (done + 8 > bytes.length) throw notAccessible(bytes.length);
    new DataView(bytes.buffer, bytes.byteOffset + done).setBigUint64(0, value, true);
    return;
  }
  const value = mapping.read(at, width);
  // The cycle has happened, also when its value can not be handed over.
  if (done + width > bytes.length) throw notAccessible(bytes.length);
  bytes[done] = value;
  if (width === 1) return;
  bytes[done + 1] = value >>> 8;
  if (width === 2) return;
  bytes[done + 2] = value >>> 16;
  bytes[done + 3] = value >>> 24;
}

function writeOne(
  device: PciCoreDevice,
  { mapping, testMem }: IoRange,
  bytes: Uint8Array,
  at: number,
  done: number,
  width: 1 | 2 | 4 | 8,
): void {
  if (done + width > bytes.length) throw notAccessible(bytes.length);
  if (testMem && !memoryEnabled(device)) throw disabled(device);
  if (width === 8) {
    mapping.write64(at, new DataView(bytes.buffer, bytes.byteOffset + done).getBigUint64(0, true));
    return;
  }
  let value = bytes[done] ?? 0;
  if (width > 1) value |= (bytes[done + 1] ?? 0) << 8;
  if (width > 2) value = (value | ((bytes[done + 2] ?? 0) << 16) | ((bytes[done + 3] ?? 0) << 24)) >>> 0;
  mapping.write(at, width, value);
}

function fillExcluded(bytes: Uint8Array, done: number, count: number): void {
  if (done + count > bytes.length) throw notAccessible(bytes.length);
  bytes.fill(EXCLUDED, done, done + count);
}

function disabled({ pdev }: PciCoreDevice): VfioError {
  return new VfioError('EIO', 'its memory is not enabled', { subject: pdev.name });
}

function notAccessible(accessible: number): VfioError {
  return new VfioError('EFAULT', `only ${accessible} bytes of the buffer are accessible`);
}
