// The bytes a step brought back, as they stand in the transcript: in hex or as a checksum, with the bytes hidden that mean nothing,
// and with the fields that items and options name.

import { ScriptMistake } from './errors.js';
import type { ByteMark, ItemBytes } from './items.js';
import type { Names } from './names.js';
import type { StepOptions } from './options.js';
import { getScalar } from './scalar.js';
import type { StepResult } from './transcript.js';

/**
 * Writes bytes to the result of a step, and keeps of them what the options ask for.
 *
 * @param bytes - what came back
 * @param sent - the items that the step sent in the same place, if it did
 * @param succeeded - the call did: descriptors and numbers in the bytes are worth keeping
 * @throws ScriptMistake - an option reaches outside of the bytes
 */
export function showBytes(
  result: StepResult,
  bytes: Uint8Array,
  options: StepOptions,
  names: Names,
  sent?: ItemBytes,
  succeeded = true,
): void {
  const marks = hiddenBytes(bytes, options, sent);
  if (succeeded) {
    keepDescriptors(bytes, options, names, marks);
    for (const { name, scalar, offset } of options.saves) {
      if (offset + scalar.size > bytes.length) throw new ScriptMistake('!save outside the buffer');
      names.setNumber(name, getScalar(bytes, offset, scalar, names.byteOrder));
    }
  }
  if (options.blob !== undefined) names.blobs.set(options.blob, bytes.slice());
  if (options.crc) {
    result.len = bytes.length;
    result.crc32 = crc32(bytes).toString(16).padStart(8, '0');
  } else if (!options.quiet) {
    result.out = hexBytes(bytes, marks);
  }
  if (!options.quiet && ((sent && sent.fields.length > 0) || options.shows.length > 0)) {
    result.fields = showFields(bytes, options, names, marks, sent);
  }
}

/** A 64-bit number as transcripts have it: `0x` and lower-case hex. */
export function hex64(value: bigint): string {
  return `0x${BigInt.asUintN(64, value).toString(16)}`;
}

/** CRC-32 (IEEE 802.3) of bytes. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

function hiddenBytes(bytes: Uint8Array, options: StepOptions, sent: ItemBytes | undefined): Map<number, ByteMark> {
  const marks = new Map<number, ByteMark>();
  for (const [offset, mark] of sent?.marks ?? []) {
    // a pointer or a descriptor that the call changed is an answer, and shows
    if (offset < bytes.length && sent?.bytes[offset] === bytes[offset]) marks.set(offset, mark);
  }
  for (const { offset, length } of options.masks) {
    for (let at = offset; at < Math.min(offset + length, bytes.length); at++) marks.set(at, '.');
  }
  return marks;
}

function keepDescriptors(bytes: Uint8Array, options: StepOptions, names: Names, marks: Map<number, ByteMark>): void {
  for (const { name, offset } of options.descriptors) {
    if (offset + 4 > bytes.length) throw new ScriptMistake('!fdat outside the buffer');
    const value = getScalar(bytes, offset, { size: 4, signed: true }, names.byteOrder);
    const descriptor = Number(BigInt.asIntN(32, value));
    names.descriptors.set(name, descriptor);
    if (descriptor > 0) for (let i = 0; i < 4; i++) marks.set(offset + i, 'n');
  }
}

function hexBytes(bytes: Uint8Array, marks: ReadonlyMap<number, ByteMark>): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
  if (marks.size === 0) return hex;
  const digits = [...hex];
  for (const [offset, mark] of marks) digits.fill(mark, 2 * offset, 2 * offset + 2);
  return digits.join('');
}

function showFields(
  bytes: Uint8Array,
  options: StepOptions,
  names: Names,
  marks: ReadonlyMap<number, ByteMark>,
  sent: ItemBytes | undefined,
): Record<string, number | string> {
  const fields: Record<string, number | string> = {};
  for (const { name, offset, scalar } of sent?.fields ?? []) {
    if (offset + scalar.size > bytes.length) continue;
    const value = getScalar(bytes, offset, scalar, names.byteOrder);
    if (marks.has(offset)) fields[name] = '*';
    else if (scalar.size === 8) fields[name] = hex64(value);
    else fields[name] = Number(scalar.signed ? BigInt.asIntN(8 * scalar.size, value) : value);
  }
  for (const { name, offset, scalar } of options.shows) {
    if (offset + scalar.size > bytes.length) continue;
    const value = getScalar(bytes, offset, scalar, names.byteOrder);
    fields[name] = scalar.size === 8 ? hex64(value) : Number(value);
  }
  return fields;
}
