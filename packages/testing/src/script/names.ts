// The named things of one script process: variables, descriptors, memory areas and blobs. A spawned process starts with copies.

import type { ByteOrder } from '@vfio/host';
import { ScriptMistake } from './errors.js';
import { evaluate, readNumber } from './expression.js';
import type { ItemScope } from './items.js';

/** A named piece of address space. A mapping that failed keeps its name, with address and length 0. */
export interface Area {
  readonly address: bigint;
  /** Bytes. */
  readonly length: bigint;
}

/** What a script process has given names to. */
export class Names implements ItemScope {
  readonly byteOrder: ByteOrder;
  readonly variables: Map<string, string>;
  readonly descriptors: Map<string, number>;
  readonly areas: Map<string, Area>;
  readonly blobs: Map<string, Uint8Array>;

  constructor(byteOrder: ByteOrder, from?: Names) {
    this.byteOrder = byteOrder;
    this.variables = new Map(from?.variables);
    this.descriptors = new Map(from?.descriptors);
    this.areas = new Map(from?.areas);
    this.blobs = new Map(from?.blobs);
  }

  /**
   * The value of an expression.
   *
   * @throws ScriptMistake - it is not understood
   */
  evaluate(text: string): bigint {
    return evaluate(text, (name) => this.variables.get(name));
  }

  /** A variable from a number. */
  setNumber(name: string, value: bigint): void {
    this.variables.set(name, `0x${value.toString(16)}`);
  }

  /** The number behind a name; a name that is a number means that number; -1 for one that never was opened or was closed. */
  descriptor(name: string): number {
    return this.descriptors.get(name) ?? literalDescriptor(name) ?? -1;
  }

  /** The address of `AREA`, of `AREA+EXPRESSION`, or any other expression. */
  address(text: string): bigint {
    const plus = text.indexOf('+');
    const area = this.areas.get(plus < 0 ? text : text.slice(0, plus));
    if (!area) return this.evaluate(text);
    return BigInt.asUintN(64, area.address + (plus < 0 ? 0n : this.evaluate(text.slice(plus + 1))));
  }

  /**
   * A memory area.
   *
   * @throws ScriptMistake - nothing has that name
   */
  area(name: string): Area {
    const area = this.areas.get(name);
    if (!area) throw new ScriptMistake(`unknown memory area '${name}'`);
    return area;
  }

  blob(name: string): Uint8Array | undefined {
    return this.blobs.get(name);
  }
}

function literalDescriptor(name: string): number | undefined {
  const sign = /^\s*[+-]?/.exec(name)?.[0] ?? '';
  const digits = name.slice(sign.length);
  const number = readNumber(digits);
  if (number?.length !== digits.length) return undefined;
  // as strtol and a cast to int: clamped to 64 bits first, then cut to 32
  const negative = sign.endsWith('-');
  const limit = negative ? 2n ** 63n : 2n ** 63n - 1n;
  const magnitude = number.value > limit ? limit : number.value;
  return Number(BigInt.asIntN(32, negative ? -magnitude : magnitude));
}
