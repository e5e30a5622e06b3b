// INFO requests answer with a chain of capabilities behind the structure: asked again when the first buffer was short. The
// answer may come from a kernel that is emulated by somebody, so nothing in it is believed beyond its own bytes.

import { type Fields, infoCapHeader, type Struct, type ValueOf } from '@vfio/core';
import type { ByteOrder } from '@vfio/host';

/** A capability of an INFO answer. */
export interface Capability {
  readonly id: number;
  readonly version: number;
  /** The capability from its header on, up to the next one or the end of the answer. */
  readonly bytes: Uint8Array;
}

/** Offset of `argsz` in every INFO structure. */
const argszOffset = 0;
/** No answer is larger, in bytes; the largest known one lists a few hundred ranges. */
const largestAnswer = 1 << 20;
/** How often an answer may turn out larger than the one before. */
const mostAttempts = 8;

/**
 * Asks with a buffer of the structure's size, and again with the size that the answer asked for.
 *
 * @param size - bytes of the structure
 * @param fill - writes what the request needs into the buffer
 * @param ask - makes the request
 * @throws RangeError - the answer wants a buffer beyond reason, or a larger one each time
 */
export async function askInfo(
  size: number,
  order: ByteOrder,
  fill: (bytes: Uint8Array) => void,
  ask: (bytes: Uint8Array) => Promise<unknown>,
): Promise<Uint8Array> {
  let room = size;
  for (let attempt = 0; attempt < mostAttempts; attempt++) {
    const bytes = new Uint8Array(room);
    fill(bytes);
    const view = new DataView(bytes.buffer);
    view.setUint32(argszOffset, room, order === 'little');
    await ask(bytes);
    const needed = view.getUint32(argszOffset, order === 'little');
    if (needed <= room) return bytes;
    if (needed > largestAnswer) throw new RangeError(`an answer of ${needed} bytes to a request of ${size}`);
    room = needed;
  }
  throw new RangeError(`an answer that grows at each of ${mostAttempts} attempts, to ${room} bytes`);
}

/**
 * Walks the chain.
 *
 * @param size - bytes of the structure that the chain follows
 * @param first - offset of the first header, 0 for none
 * @throws RangeError - the chain points into the structure, outside of the answer, or backwards
 */
export function capabilities(bytes: Uint8Array, size: number, first: number, order: ByteOrder): Capability[] {
  const found: Capability[] = [];
  let least = size;
  for (let at = first; at !== 0; ) {
    if (at < least) throw new RangeError(`a capability at ${at}, where ${least} bytes are taken`);
    if (at + infoCapHeader.size > bytes.length) throw new RangeError(`a capability at ${at} of ${bytes.length} bytes`);
    const { id, version, next } = infoCapHeader.decode(bytes.subarray(at), order);
    least = at + infoCapHeader.size;
    found.push({ id, version, bytes: bytes.subarray(at, next >= least ? next : bytes.length) });
    at = next;
  }
  return found;
}

/**
 * The elements of a capability that ends in an array.
 *
 * @param start - bytes before the array
 * @param count - how many elements the capability says it has
 * @throws RangeError - it has not the room for them
 */
export function elements<F extends Fields>(
  cap: Uint8Array,
  start: number,
  count: number,
  element: Struct<F>,
  order: ByteOrder,
): ValueOf<F>[] {
  if (start + count * element.size > cap.length) {
    throw new RangeError(`${count} of ${element.name} in a capability of ${cap.length} bytes`);
  }
  return Array.from({ length: count }, (_, i) => element.decode(cap.subarray(start + i * element.size), order));
}
