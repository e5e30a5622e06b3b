/**
 * Binary layouts of the uAPI. A struct is declared once, with the offset of every field as the C compiler lays it out;
 * its TypeScript type follows by inference, and the byte order is given with each access, because it belongs to the
 * process that calls. The declaration is checked when it is made: no overlap, no hole without a name, the stated size.
 */
import type { ByteOrder } from '@vfio/host';

/** Integers of up to 32 bits: a `number` in TypeScript. */
export type NumberKind = 'u8' | 'u16' | 'u32' | 's32';

/** What a field holds: an integer, raw bytes, another struct, padding, or the start of a flexible array. */
export type FieldKind = NumberKind | 'u64' | 'bytes' | 'struct' | 'pad' | 'tail';

/** One field of a struct: where it is and what it holds. Made by `u8()`, `u16()` and so on. */
export interface Field<K extends FieldKind = FieldKind> {
  readonly kind: K;
  /** Bytes from the start of the struct. */
  readonly offset: number;
  /** Bytes; 0 for the start of a flexible array. */
  readonly size: number;
  /** Shares its bytes with a field declared before it: the further members of a C union. */
  readonly isAlias: boolean;
}

/** A field that is itself a struct. */
export interface NestedField<F extends Fields> extends Field<'struct'> {
  readonly struct: Struct<F>;
}

/** The fields of a struct by their names. */
export type Fields = Readonly<Record<string, Field>>;

type FieldValue<F> =
  F extends NestedField<infer N>
    ? ValueOf<N>
    : F extends Field<'u64'>
      ? bigint
      : F extends Field<'bytes'>
        ? Uint8Array
        : F extends Field<NumberKind>
          ? number
          : never;

/**
 * The value of a struct with these fields: `number` up to 32 bits, `bigint` for 64, `Uint8Array` for bytes, an object for
 * a nested struct. Padding and flexible arrays have no value.
 */
export type ValueOf<F extends Fields> = {
  -readonly [K in keyof F as F[K] extends Field<'pad' | 'tail'> ? never : K]: FieldValue<F[K]>;
};

/** What `encode` takes: fields that are left out are zero, as in a C initialiser. */
export type InitOf<F extends Fields> = {
  readonly [K in keyof F as F[K] extends Field<'pad' | 'tail'> ? never : K]?: F[K] extends NestedField<infer N>
    ? InitOf<N>
    : FieldValue<F[K]>;
};

function field<K extends FieldKind>(kind: K, offset: number, size: number): Field<K> {
  return { kind, offset, size, isAlias: false };
}

/** An unsigned 8-bit field at `offset`. */
export function u8(offset: number): Field<'u8'> {
  return field('u8', offset, 1);
}

/** An unsigned 16-bit field at `offset`. */
export function u16(offset: number): Field<'u16'> {
  return field('u16', offset, 2);
}

/** An unsigned 32-bit field at `offset`. */
export function u32(offset: number): Field<'u32'> {
  return field('u32', offset, 4);
}

/** A signed 32-bit field at `offset`: descriptors and enumerations. */
export function s32(offset: number): Field<'s32'> {
  return field('s32', offset, 4);
}

/** An unsigned 64-bit field at `offset`: a `bigint`. Pointers are of this kind too. */
export function u64(offset: number): Field<'u64'> {
  return field('u64', offset, 8);
}

/** `length` bytes at `offset`, handed over as they are, in no byte order. */
export function bytes(offset: number, length: number): Field<'bytes'> {
  return field('bytes', offset, length);
}

/** `length` bytes at `offset` that the C compiler puts in for alignment. Written as zeros, never read. */
export function pad(offset: number, length: number): Field<'pad'> {
  return field('pad', offset, length);
}

/** A flexible array that begins at `offset`, the end of the struct. Its elements are read apart (`decodeArray`). */
export function tail(offset: number): Field<'tail'> {
  return field('tail', offset, 0);
}

/** The struct `inner` as a field at `offset`. */
export function nested<F extends Fields>(offset: number, inner: Struct<F>): NestedField<F> {
  return { kind: 'struct', offset, size: inner.size, isAlias: false, struct: inner };
}

/**
 * The same bytes as a field declared before, under another name: the second member of a union. A decoded value has both
 * names; when a value to be encoded has both, they must agree.
 */
export function alias<F extends Field>(of: F): F {
  return { ...of, isAlias: true };
}

type FieldData = number | bigint | Uint8Array | object;

/** A field as the loops use it: its name beside it, and for aliases the name of the field whose bytes they share. */
interface Slot {
  readonly name: string;
  readonly kind: FieldKind;
  readonly offset: number;
  readonly size: number;
  readonly struct: Struct<Fields> | undefined;
  readonly sharesWith: string | undefined;
}

function isNested(f: Field): f is NestedField<Fields> {
  return f.kind === 'struct';
}

/** The layout of one C struct: how its bytes become a value, and back. Made by `struct()`. */
export class Struct<F extends Fields> {
  /** The struct's name in C. */
  readonly name: string;
  /** `sizeof`, in bytes; a flexible array does not count. */
  readonly size: number;
  /** The fields as declared. */
  readonly fields: F;
  readonly #slots: readonly Slot[];

  constructor(name: string, size: number, fields: F) {
    this.name = name;
    this.size = size;
    this.fields = fields;
    this.#slots = checkedSlots(name, size, fields);
  }

  /**
   * Reads the struct at the start of `from`. Bytes that `from` does not have read as zero, as in a struct that the
   * kernel clears before it copies the part that the caller gave. Byte fields are copies.
   */
  decode(from: Uint8Array, order: ByteOrder): ValueOf<F> {
    let source = from;
    if (from.length < this.size) {
      source = new Uint8Array(this.size);
      source.set(from);
    }
    const view = new DataView(source.buffer, source.byteOffset, this.size);
    return this.readAt(view, 0, order === 'little');
  }

  /** A new array of `size` bytes with `value` in it; fields that `value` lacks are zero. */
  encode(value: InitOf<F>, order: ByteOrder): Uint8Array {
    const into = new Uint8Array(this.size);
    this.writeAt(new DataView(into.buffer), 0, value, order === 'little');
    return into;
  }

  /** Writes `value` at the start of `into`, as much of it as `into` has room for; bytes past the struct stay as they are. */
  write(into: Uint8Array, value: InitOf<F>, order: ByteOrder): void {
    if (into.length < this.size) {
      into.set(this.encode(value, order).subarray(0, into.length));
      return;
    }
    into.fill(0, 0, this.size);
    this.writeAt(new DataView(into.buffer, into.byteOffset, this.size), 0, value, order === 'little');
  }

  /**
   * Reads structs that follow each other from `offset` on: the elements of a flexible array.
   *
   * @param count - elements to read; all that fit whole when left out
   * @throws RangeError - `from` has fewer than `count` elements
   */
  decodeArray(from: Uint8Array, order: ByteOrder, offset = 0, count?: number): ValueOf<F>[] {
    const fitting = Math.max(0, Math.floor((from.length - offset) / this.size));
    const wanted = count ?? fitting;
    if (wanted > fitting) throw new RangeError(`${wanted} of ${this.name} asked for, ${fitting} there`);
    const view = new DataView(from.buffer, from.byteOffset, from.byteLength);
    const values: ValueOf<F>[] = [];
    for (let i = 0; i < wanted; i++) values.push(this.readAt(view, offset + i * this.size, order === 'little'));
    return values;
  }

  /** The bytes of `values`, one after the other. */
  encodeArray(values: readonly InitOf<F>[], order: ByteOrder): Uint8Array {
    const into = new Uint8Array(values.length * this.size);
    const view = new DataView(into.buffer);
    for (const [i, value] of values.entries()) this.writeAt(view, i * this.size, value, order === 'little');
    return into;
  }

  /** `offsetof`: bytes from the start of the struct to `name`. */
  offsetOf(name: keyof F & string): number {
    return this.#field(name).offset;
  }

  /** `offsetofend`: the first byte after `name`. With the last field of a struct's first version, its smallest size. */
  endOf(name: keyof F & string): number {
    const { offset, size } = this.#field(name);
    return offset + size;
  }

  /** Reads the struct that starts at byte `base` of `view`, which must reach to its end. */
  readAt(view: DataView, base: number, littleEndian: boolean): ValueOf<F> {
    const value: Record<string, FieldData> = {};
    for (const slot of this.#slots) {
      const at = base + slot.offset;
      switch (slot.kind) {
        case 'u8':
          value[slot.name] = view.getUint8(at);
          break;
        case 'u16':
          value[slot.name] = view.getUint16(at, littleEndian);
          break;
        case 'u32':
          value[slot.name] = view.getUint32(at, littleEndian);
          break;
        case 's32':
          value[slot.name] = view.getInt32(at, littleEndian);
          break;
        case 'u64':
          value[slot.name] = view.getBigUint64(at, littleEndian);
          break;
        case 'bytes':
          value[slot.name] = new Uint8Array(view.buffer, view.byteOffset + at, slot.size).slice();
          break;
        case 'struct':
          if (slot.struct) value[slot.name] = slot.struct.readAt(view, at, littleEndian);
          break;
        default: // padding and flexible arrays have no value
          break;
      }
    }
    const decoded: object = value;
    return decoded as ValueOf<F>;
  }

  /**
   * Writes the fields that `value` has at byte `base` of `view`, which is zero there beforehand. Typed access is `encode`.
   *
   * @throws TypeError - two names of the same bytes have different values
   */
  writeAt(view: DataView, base: number, value: object, littleEndian: boolean): void {
    const source = value as Readonly<Record<string, FieldData | undefined>>;
    for (const slot of this.#slots) {
      const data = source[slot.name];
      if (data === undefined) continue;
      if (slot.sharesWith !== undefined) {
        const other = source[slot.sharesWith];
        if (other !== undefined && other !== data) {
          throw new TypeError(`${this.name}: ${slot.name} ${data} and ${slot.sharesWith} ${other} share their bytes`);
        }
      }
      put(view, base + slot.offset, slot, data, littleEndian);
    }
  }

  #field(name: string): Field {
    const found = Object.hasOwn(this.fields, name) ? this.fields[name] : undefined;
    if (!found) throw new RangeError(`${this.name} has no field '${name}'`);
    return found;
  }
}

function put(view: DataView, at: number, slot: Slot, data: FieldData, littleEndian: boolean): void {
  if (typeof data === 'number') {
    if (slot.kind === 'u32') view.setUint32(at, data, littleEndian);
    else if (slot.kind === 's32') view.setInt32(at, data, littleEndian);
    else if (slot.kind === 'u16') view.setUint16(at, data, littleEndian);
    else if (slot.kind === 'u8') view.setUint8(at, data);
    else throw new TypeError(`${slot.name} is of kind ${slot.kind}, not a number`);
  } else if (typeof data === 'bigint') {
    if (slot.kind !== 'u64') throw new TypeError(`${slot.name} is of kind ${slot.kind}, not a bigint`);
    view.setBigUint64(at, data, littleEndian);
  } else if (slot.struct) {
    slot.struct.writeAt(view, at, data, littleEndian);
  } else if (slot.kind === 'bytes' && data instanceof Uint8Array) {
    if (data.length > slot.size)
      throw new RangeError(`${slot.name} has room for ${slot.size} bytes, not ${data.length}`);
    new Uint8Array(view.buffer, view.byteOffset + at, slot.size).set(data);
  } else {
    throw new TypeError(`${slot.name} is of kind ${slot.kind}`);
  }
}

function checkedSlots(name: string, size: number, fields: Fields): Slot[] {
  const slots: Slot[] = [];
  const owner: (string | undefined)[] = new Array(size).fill(undefined);
  for (const [fieldName, f] of Object.entries(fields)) {
    const end = f.offset + f.size;
    if (end > size) throw new RangeError(`${name}.${fieldName} ends at ${end}, the struct at ${size}`);
    if (f.kind === 'tail' && f.offset !== size) {
      throw new RangeError(`${name}.${fieldName} begins at ${f.offset}, the struct ends at ${size}`);
    }
    for (let at = f.offset; at < end; at++) {
      const taken = owner[at];
      if (f.isAlias && taken === undefined) throw new RangeError(`${name}.${fieldName} is an alias of nothing`);
      if (!f.isAlias && taken !== undefined) throw new RangeError(`${name}.${fieldName} overlaps ${taken} at ${at}`);
      owner[at] ??= fieldName;
    }
    slots.push({
      name: fieldName,
      kind: f.kind,
      offset: f.offset,
      size: f.size,
      struct: isNested(f) ? f.struct : undefined,
      sharesWith: f.isAlias ? owner[f.offset] : undefined,
    });
  }
  const hole = owner.indexOf(undefined);
  if (hole >= 0) throw new RangeError(`${name} has an unnamed hole at ${hole}`);
  return slots.filter((slot) => slot.kind !== 'pad' && slot.kind !== 'tail');
}

/**
 * Declares a C struct.
 *
 * @param name - its name in C
 * @param size - `sizeof`, in bytes
 * @param fields - by name, with explicit offsets, in order
 * @throws RangeError - the fields overlap, leave a hole without a name, or do not add up to `size`
 */
export function struct<F extends Fields>(name: string, size: number, fields: F): Struct<F> {
  return new Struct(name, size, fields);
}
