// INFO requests answer with a chain of capabilities behind the structure: asked twice when the first buffer was short.

import { infoCapHeader } from '@vfio/core';
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

/**
 * Asks with a buffer of the structure's size, and again with the size that the answer asked for.
 *
 * @param size - bytes of the structure
 * @param fill - writes what the request needs into the buffer
 * @param ask - makes the request
 */
export async function askInfo(
  size: number,
  order: ByteOrder,
  fill: (bytes: Uint8Array) => void,
  ask: (bytes: Uint8Array) => Promise<unknown>,
): Promise<Uint8Array> {
  for (let room = size; ; ) {
    const bytes = new Uint8Array(room);
    fill(bytes);
    const view = new DataView(bytes.buffer);
    view.setUint32(argszOffset, room, order === 'little');
    await ask(bytes);
    const needed = view.getUint32(argszOffset, order === 'little');
    if (needed <= room) return bytes;
    room = needed;
  }
}

/**
 * Walks the chain.
 *
 * @param first - offset of the first header, 0 for none
 * @throws RangeError - the chain points outside of the answer or backwards
 */
export function capabilities(bytes: Uint8Array, first: number, order: ByteOrder): Capability[] {
  const found: Capability[] = [];
  for (let at = first; at !== 0; ) {
    if (at + infoCapHeader.size > bytes.length) throw new RangeError(`a capability at ${at} of ${bytes.length} bytes`);
    const header = infoCapHeader.decode(bytes.subarray(at), order);
    if (header.next !== 0 && header.next <= at)
      throw new RangeError(`a capability chain from ${at} back to ${header.next}`);
    found.push({ id: header.id, version: header.version, bytes: bytes.subarray(at, header.next || bytes.length) });
    at = header.next;
  }
  return found;
}
