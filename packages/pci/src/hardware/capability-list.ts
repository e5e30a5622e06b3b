/*
 * The two lists of capabilities in config space: appending to them, and walking them.
 */
import { CFG_SPACE_SIZE, Reg, STD_HEADER_SIZE, Status } from '../bus/regs.js';
import type { ConfigSpace } from './config-space.js';

/** A capability and where it is. */
export interface CapabilityAt {
  readonly id: number;
  readonly offset: number;
}

const EXT_NEXT_SHIFT = 20;
const EXT_VERSION_SHIFT = 16;
/** As many as fit. */
const MAX_CAPS = (CFG_SPACE_SIZE - STD_HEADER_SIZE) / 4;

/** The capabilities of one function. */
export class CapabilityList {
  readonly #config: ConfigSpace;
  #free = STD_HEADER_SIZE;
  #extFree = CFG_SPACE_SIZE;
  #last = 0;
  #extLast = 0;

  constructor(config: ConfigSpace) {
    this.#config = config;
  }

  /**
   * Appends a capability of the first 256 bytes.
   *
   * @param length - bytes, with id and next
   * @param at - where; behind the last one by default
   * @returns its offset
   * @throws RangeError - there is no room
   */
  add(id: number, length: number, at = this.#free): number {
    if (at + length > CFG_SPACE_SIZE || at < STD_HEADER_SIZE) throw new RangeError(`no room for capability ${id}`);
    const config = this.#config;
    config.set(at, 1, id);
    config.set(at + 1, 1, 0);
    config.set(Reg.STATUS, 2, config.get(Reg.STATUS, 2) | Status.CAP_LIST);
    config.set(this.#last === 0 ? Reg.CAPABILITY_LIST : this.#last + 1, 1, at);
    this.#last = at;
    this.#free = Math.max(this.#free, aligned(at + length));
    return at;
  }

  /** Appends an extended capability, as `add`. */
  addExtended(id: number, version: number, length: number, at = this.#extFree): number {
    const config = this.#config;
    if (at + length > config.size || at < CFG_SPACE_SIZE) throw new RangeError(`no room for extended capability ${id}`);
    config.set(at, 4, id | (version << EXT_VERSION_SHIFT));
    if (this.#extLast !== 0) {
      config.set(this.#extLast, 4, (config.get(this.#extLast, 4) | (at << EXT_NEXT_SHIFT)) >>> 0);
    }
    this.#extLast = at;
    this.#extFree = Math.max(this.#extFree, aligned(at + length));
    return at;
  }

  /** Where a capability is; 0: nowhere. */
  find(id: number): number {
    return this.standard().find((cap) => cap.id === id)?.offset ?? 0;
  }

  /** Where an extended capability is; 0: nowhere. */
  findExtended(id: number): number {
    return this.extended().find((cap) => cap.id === id)?.offset ?? 0;
  }

  /** The capabilities of the first 256 bytes, in their order. */
  standard(): CapabilityAt[] {
    const config = this.#config;
    if ((config.get(Reg.STATUS, 2) & Status.CAP_LIST) === 0) return [];
    const found: CapabilityAt[] = [];
    let offset = config.get(Reg.CAPABILITY_LIST, 1) & ~3;
    while (offset >= STD_HEADER_SIZE && found.length < MAX_CAPS) {
      const id = config.get(offset, 1);
      if (id === 0xff) break;
      found.push({ id, offset });
      offset = config.get(offset + 1, 1) & ~3;
    }
    return found;
  }

  /** The extended capabilities, in their order. */
  extended(): CapabilityAt[] {
    const config = this.#config;
    const found: CapabilityAt[] = [];
    const seen = new Set<number>();
    let offset = CFG_SPACE_SIZE;
    while (offset >= CFG_SPACE_SIZE && offset < config.size && !seen.has(offset)) {
      seen.add(offset);
      const header = config.get(offset, 4);
      if (header === 0 || header === 0xffff_ffff) break;
      found.push({ id: header & 0xffff, offset });
      offset = (header >>> EXT_NEXT_SHIFT) & ~3;
    }
    return found;
  }
}

function aligned(offset: number): number {
  return (offset + 3) & ~3;
}
