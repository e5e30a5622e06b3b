// Byte items: the words that build a structure or the data of a write, as `flags=u32:DMA_RW`, `fd:c`, `ptr:m+PAGE` or `zero:16`.

import type { ByteOrder } from '@vfio/host';
import { bytesOf } from './byte-string.js';
import { ScriptMistake } from './errors.js';
import { putScalar, type Scalar, scalarType } from './scalar.js';

/** Marks a byte whose value means nothing: of a pointer, of a descriptor number, or hidden by the script. */
export type ByteMark = 'p' | 'n' | '.';

/** A named number in a structure. */
export interface Field {
  readonly name: string;
  /** Bytes from the start. */
  readonly offset: number;
  readonly scalar: Scalar;
}

/** What the items of one step make together. */
export interface ItemBytes {
  readonly bytes: Uint8Array;
  /** Marks by byte offset; most bytes have none. */
  readonly marks: ReadonlyMap<number, ByteMark>;
  readonly fields: readonly Field[];
}

/** What items refer to. */
export interface ItemScope {
  readonly byteOrder: ByteOrder;
  evaluate(text: string): bigint;
  /** The number of a descriptor, -1 for a name that has none. */
  descriptor(name: string): number;
  /** An address: of an area, with an offset or without, or any number. */
  address(text: string): bigint;
  blob(name: string): Uint8Array | undefined;
}

/** Longest run of bytes that one item may make. */
const MAX_ITEM = 64n << 20n;

/**
 * Builds bytes from items.
 *
 * @param room - at least so many bytes; what the items leave is zero
 * @throws ScriptMistake - an item is not understood, or a blob is unknown or too short
 */
export function buildItems(words: readonly string[], scope: ItemScope, room = 0): ItemBytes {
  const builder = new ItemBuilder(scope);
  for (const word of words) builder.add(word);
  return builder.finish(room);
}

class ItemBuilder {
  readonly #scope: ItemScope;
  readonly #chunks: Uint8Array[] = [];
  readonly #marks = new Map<number, ByteMark>();
  readonly #fields: Field[] = [];
  #length = 0;

  constructor(scope: ItemScope) {
    this.#scope = scope;
  }

  add(word: string): void {
    const colon = word.indexOf(':');
    if (colon < 0) throw new ScriptMistake(`byte item '${word}' lacks a type`);
    const equals = word.indexOf('=');
    const named = equals >= 0 && equals < colon;
    const type = word.slice(named ? equals + 1 : 0, colon);
    const value = word.slice(colon + 1);
    const scalar = scalarType(type);
    if (scalar) {
      if (named && equals > 0) this.#fields.push({ name: word.slice(0, equals), offset: this.#length, scalar });
      this.#number(scalar, this.#scope.evaluate(value));
      return;
    }
    this.#other(type, value);
  }

  finish(room: number): ItemBytes {
    const bytes = new Uint8Array(Math.max(this.#length, room));
    let at = 0;
    for (const chunk of this.#chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return { bytes, marks: this.#marks, fields: this.#fields };
  }

  #other(type: string, value: string): void {
    switch (type) {
      case 'fd': {
        const descriptor = this.#scope.descriptor(value);
        this.#number({ size: 4, signed: true }, BigInt(descriptor), descriptor < 0 ? undefined : 'n');
        break;
      }
      case 'ptr':
        this.#number({ size: 8, signed: false }, this.#scope.address(value), 'p');
        break;
      case 'hex':
        if (!/^(?:[0-9a-fA-F]{2})*$/.test(value)) throw new ScriptMistake(`bad hex item '${value}'`);
        this.#append(Uint8Array.from(Buffer.from(value, 'hex')));
        break;
      case 'zero':
        this.#append(new Uint8Array(this.#count(value)));
        break;
      case 'fill': {
        const star = value.indexOf('*');
        if (star < 0) throw new ScriptMistake('fill needs BYTE*COUNT');
        const filled = new Uint8Array(this.#count(value.slice(star + 1)));
        this.#append(filled.fill(Number(this.#scope.evaluate(value.slice(0, star)) & 0xffn)));
        break;
      }
      case 'str':
        this.#append(bytesOf(value));
        break;
      case 'strz':
        this.#append(bytesOf(`${value}\0`));
        break;
      case 'blob':
        this.#append(this.#blob(value));
        break;
      default:
        throw new ScriptMistake(`unknown item type '${type}'`);
    }
  }

  /** `NAME[:OFFSET[:LENGTH]]` */
  #blob(value: string): Uint8Array {
    const [name = '', offsetText, ...lengthText] = value.split(':');
    const blob = this.#scope.blob(name);
    if (!blob) throw new ScriptMistake(`unknown blob ${name}`);
    const whole = BigInt(blob.length);
    const offset = offsetText === undefined ? 0n : this.#scope.evaluate(offsetText);
    const length = lengthText.length === 0 ? whole - offset : this.#scope.evaluate(lengthText.join(':'));
    if (offset > whole || length > whole - offset) throw new ScriptMistake(`blob range outside ${name}`);
    return blob.slice(Number(offset), Number(offset + length));
  }

  #count(text: string): number {
    const count = this.#scope.evaluate(text);
    if (count > MAX_ITEM) throw new ScriptMistake(`an item of ${count} bytes is too long`);
    return Number(count);
  }

  #number(scalar: Scalar, value: bigint, mark?: ByteMark): void {
    const bytes = new Uint8Array(scalar.size);
    putScalar(bytes, 0, scalar, value, this.#scope.byteOrder);
    if (mark) for (let i = 0; i < scalar.size; i++) this.#marks.set(this.#length + i, mark);
    this.#append(bytes);
  }

  #append(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#length += bytes.length;
  }
}
