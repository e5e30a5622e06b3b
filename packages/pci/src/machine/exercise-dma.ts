/*
 * What trying a device that does DMA needs: its switch, its interrupt, and patience.
 */
import { type ExerciseDevice, PciRegionIndex } from '@vfio/core';
import { isSystemError, type Process } from '@vfio/host';
import { Command, Reg } from '../bus/regs.js';
import { word } from '../hardware/raw-config.js';

/** Turns of the event loop after which a device that still works on something is taken to be stuck. */
const PATIENCE = 100_000;

/** Lets a device answer at its BARs and start cycles of its own. */
export async function switchOn(device: ExerciseDevice): Promise<void> {
  const { CONFIG } = PciRegionIndex;
  const before = word(await device.readRegion(CONFIG, Reg.COMMAND, 2), 0);
  await device.writeRegion(CONFIG, Reg.COMMAND, bytesOf(before | Command.MEMORY | Command.MASTER, 2));
}

/**
 * Waits for what a device does by itself.
 *
 * @throws Error - it does not happen
 */
export async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < PATIENCE; turn++) {
    if (await done()) return;
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
  throw new Error(`waited in vain for ${what}`);
}

/** Runs something while an eventfd is connected to the first vector of an index. */
export async function withInterrupt(
  process: Process,
  device: ExerciseDevice,
  index: number,
  run: (arrived: () => Promise<boolean>) => Promise<void>,
): Promise<void> {
  const eventfd = process.eventfd(0, { nonblock: true });
  try {
    await device.setTriggers(index, [eventfd]);
    await run(() => take(process, eventfd));
    await device.setTriggers(index, []);
  } finally {
    await process.close(eventfd);
  }
}

/** Whether it was signalled since. */
async function take(process: Process, eventfd: number): Promise<boolean> {
  try {
    await process.read(eventfd, new Uint8Array(8));
    return true;
  } catch (error) {
    if (!isSystemError(error, 'EAGAIN')) throw error;
    return false;
  }
}

/** A register value as it goes over the bus. */
export function bytesOf(value: number | bigint, size: 1 | 2 | 4 | 8): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
  return bytes.subarray(0, size);
}

/** A pattern that is the same nowhere within a page. */
export function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + (index >> 8) * 13 + seed) & 0xff);
}

/**
 * @throws Error - bytes are not what they should be
 */
export function expectSame(what: string, seen: Uint8Array, expected: Uint8Array): void {
  const at = expected.findIndex((byte, index) => seen[index] !== byte);
  if (at >= 0) throw new Error(`${what}: byte ${at} is ${seen[at]}, not ${expected[at]}`);
}
