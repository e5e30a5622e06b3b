// Numbers of fixed width in memory: `u32`, `s8`, `le16`, `be64`.

import type { ByteOrder } from '@vfio/host';
import { ScriptMistake } from './errors.js';

/** Bytes of a scalar. */
export type ScalarSize = 1 | 2 | 4 | 8;

/** A scalar type of the language. */
export interface Scalar {
  readonly size: ScalarSize;
  readonly signed: boolean;
  /** Absent: the order of the process. */
  readonly order?: ByteOrder;
}

const types: Readonly<Record<string, Scalar>> = {
  u8: { size: 1, signed: false },
  s8: { size: 1, signed: true },
  u16: { size: 2, signed: false },
  u32: { size: 4, signed: false },
  s32: { size: 4, signed: true },
  u64: { size: 8, signed: false },
  s64: { size: 8, signed: true },
  le16: { size: 2, signed: false, order: 'little' },
  le32: { size: 4, signed: false, order: 'little' },
  le64: { size: 8, signed: false, order: 'little' },
  be16: { size: 2, signed: false, order: 'big' },
  be32: { size: 4, signed: false, order: 'big' },
  be64: { size: 8, signed: false, order: 'big' },
};

/** The scalar type of that name, if there is one. */
export function scalarType(name: string): Scalar | undefined {
  return Object.hasOwn(types, name) ? types[name] : undefined;
}

/**
 * The scalar type of that name.
 *
 * @throws ScriptMistake - there is none
 */
export function needScalar(name: string): Scalar {
  const scalar = scalarType(name);
  if (!scalar) throw new ScriptMistake(`bad type ${name}`);
  return scalar;
}

/**
 * Writes the low bytes of a number.
 *
 * @param order - of the process; a scalar with an order of its own keeps to that
 */
export function putScalar(into: Uint8Array, offset: number, scalar: Scalar, value: bigint, order: ByteOrder): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  const little = (scalar.order ?? order) === 'little';
  switch (scalar.size) {
    case 1:
      view.setUint8(offset, Number(value & 0xffn));
      break;
    case 2:
      view.setUint16(offset, Number(value & 0xffffn), little);
      break;
    case 4:
      view.setUint32(offset, Number(value & 0xffffffffn), little);
      break;
    case 8:
      view.setBigUint64(offset, BigInt.asUintN(64, value), little);
      break;
  }
}

/**
 * Reads a number, without regard to its sign.
 *
 * @param order - of the process; a scalar with an order of its own keeps to that
 */
export function getScalar(from: Uint8Array, offset: number, scalar: Scalar, order: ByteOrder): bigint {
  const view = new DataView(from.buffer, from.byteOffset, from.byteLength);
  const little = (scalar.order ?? order) === 'little';
  switch (scalar.size) {
    case 1:
      return BigInt(view.getUint8(offset));
    case 2:
      return BigInt(view.getUint16(offset, little));
    case 4:
      return BigInt(view.getUint32(offset, little));
    case 8:
      return view.getBigUint64(offset, little);
  }
}

/** The same bytes read in the other order. */
export function swapBytes(value: bigint, size: ScalarSize): bigint {
  let rest = value;
  let swapped = 0n;
  for (let i = 0; i < size; i++) {
    swapped = (swapped << 8n) | (rest & 0xffn);
    rest >>= 8n;
  }
  return swapped;
}
