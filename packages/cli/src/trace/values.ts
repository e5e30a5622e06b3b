// Writes decoded structs the way strace writes them: names as in C, flags by name, addresses in hex.

import type { FieldNames, UapiLayout, UapiRest, UapiStruct } from '@vfio/core';
import type { ByteOrder } from '@vfio/host';

/** Elements of an array that are written out. */
const mostElements = 16;
/** From here on a number reads better in hex. */
const smallNumber = 10n;

/** A struct in memory: its fields, and the text of what follows it. */
export interface DecodedStruct {
  readonly fields: ReadonlyMap<string, string>;
  /** Values before they became text. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly rest: string;
}

/** Reads a struct and what follows it; undefined if there is not a single byte of it. */
export function decodeStruct(layout: UapiStruct, bytes: Uint8Array, order: ByteOrder): DecodedStruct | undefined {
  if (bytes.length === 0) return undefined;
  const { struct, names = {} } = layout;
  const values = asRecord(struct.decode(bytes, order));
  const fields = new Map<string, string>();
  for (const [name, field] of Object.entries(struct.fields)) {
    const there = field.offset + field.size <= bytes.length;
    if (!there || field.isAlias || field.kind === 'pad' || field.kind === 'tail' || isReserved(name)) continue;
    fields.set(snakeCase(name), formatValue(values[name], field.kind, names[name]));
  }
  const rest = layout.rest?.(values);
  return { fields, values, rest: rest ? decodeRest(rest, bytes.subarray(struct.size), order) : '' };
}

/** `{argsz=32, flags=READ|WRITE}` */
export function formatStruct({ fields, rest }: Pick<DecodedStruct, 'fields' | 'rest'>): string {
  const parts = [...fields].map(([name, text]) => `${name}=${text}`);
  if (rest !== '') parts.push(rest);
  return `{${parts.join(', ')}}`;
}

/** Names of the capabilities behind an answer: `[SPARSE_MMAP, TYPE]`; empty if there are none. */
export function capabilityNames(
  layout: UapiStruct,
  { values }: DecodedStruct,
  bytes: Uint8Array,
  order: ByteOrder,
): string {
  const first = values.capOffset;
  if (!layout.caps || typeof first !== 'number' || first === 0) return '';
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const names: string[] = [];
  for (let at = first; at !== 0 && at + 8 <= bytes.length && names.length < mostElements; ) {
    const id = view.getUint16(at, order === 'little');
    names.push(nameOf(layout.caps, id) ?? String(id));
    const next = view.getUint32(at + 4, order === 'little');
    at = next > at ? next : 0;
  }
  return `caps=[${names.join(', ')}]`;
}

function decodeRest(rest: UapiRest, bytes: Uint8Array, order: ByteOrder): string {
  switch (rest.kind) {
    case 'struct': {
      const decoded = decodeStruct(rest.layout, bytes, order);
      return decoded ? formatStruct(decoded) : '';
    }
    case 'structs': {
      const count = Math.floor(bytes.length / rest.struct.size);
      const element = (i: number) => elementText(rest.struct, bytes.subarray(i * rest.struct.size), order);
      return count > 0 ? arrayText(count, element) : '';
    }
    case 's32': {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const count = Math.min(rest.count, Math.floor(bytes.length / 4));
      return arrayText(count, (i) => String(view.getInt32(4 * i, order === 'little')));
    }
    case 'u8':
      return arrayText(Math.min(rest.count, bytes.length), (i) => String(bytes[i]));
  }
}

function elementText(struct: UapiLayout, bytes: Uint8Array, order: ByteOrder): string {
  const decoded = decodeStruct({ struct }, bytes, order);
  return decoded ? formatStruct(decoded) : '';
}

function arrayText(count: number, element: (index: number) => string): string {
  const shown = Array.from({ length: Math.min(count, mostElements) }, (_, i) => element(i));
  return `[${shown.join(', ')}${count > mostElements ? ', ...' : ''}]`;
}

function formatValue(value: unknown, kind: string, names: FieldNames | undefined): string {
  if (typeof value === 'number' || typeof value === 'bigint') {
    if (names)
      return 'bits' in names ? bitsText(BigInt(value), names.bits) : (nameOf(names.value, value) ?? String(value));
    // 64 bits are addresses, sizes and offsets
    return kind === 'u64' && BigInt(value) >= smallNumber ? hex(value) : String(value);
  }
  if (value instanceof Uint8Array) return bytesText(value);
  if (typeof value === 'object' && value !== null) {
    const parts = Object.entries(asRecord(value))
      .filter(([name]) => !isReserved(name))
      .map(
        ([name, one]) => `${snakeCase(name)}=${formatValue(one, typeof one === 'bigint' ? 'u64' : 'u32', undefined)}`,
      );
    return `{${parts.join(', ')}}`;
  }
  return String(value);
}

/** `READ|WRITE`, with what has no name in hex; `0` for none. */
export function bitsText(value: bigint, names: Readonly<Record<string, number>>): string {
  const parts: string[] = [];
  let left = value;
  for (const [name, bit] of Object.entries(names)) {
    const mask = BigInt(bit);
    if (mask === 0n || (left & mask) !== mask) continue;
    parts.push(name);
    left &= ~mask;
  }
  if (left !== 0n || parts.length === 0) parts.push(left === 0n ? '0' : hex(left));
  return parts.join('|');
}

/** The name of a value; undefined if it has none. */
export function nameOf(names: Readonly<Record<string, number>>, value: number | bigint): string | undefined {
  return Object.entries(names).find(([, number]) => BigInt(number) === BigInt(value))?.[0];
}

/** `"\x01\x02"...`, the first bytes of a buffer. */
export function bytesText(bytes: Uint8Array, most = 16): string {
  const printable = (byte: number) => byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c;
  const shown = [...bytes.subarray(0, most)];
  const text = shown.map((byte) =>
    printable(byte) ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`,
  );
  return `"${text.join('')}"${bytes.length > most ? '...' : ''}`;
}

/** `0x7f00` */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** `numRegions` -> `num_regions`, as the header has it. */
function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function isReserved(name: string): boolean {
  return /^(pad|reserved)\d*$/.test(name);
}

function asRecord(value: object): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(value));
}
