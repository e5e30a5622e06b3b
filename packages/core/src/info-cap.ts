/**
 * Capability chains: what an INFO request answers beyond its fixed struct. Capabilities are collected while the answer is
 * put together, linked by their `next` fields, and written behind the struct when the caller left room for all of them.
 */
import type { ByteOrder, IoctlCall, Seams } from '@vfio/host';
import { infoCapHeader } from './uapi/container.js';
import type { Fields, InitOf, Struct, ValueOf } from './uapi/struct.js';

/** Alignment of a capability in the chain, in bytes. */
const capAlign = 8;

/**
 * A chain of capabilities in the making. Source: include/linux/vfio.h `struct vfio_info_cap`
 *
 * Offsets in it count from its own start until `shift` moves them to where it will stand in the answer.
 */
export class InfoCap {
  /** Byte order of the caller: capabilities are encoded in it. */
  readonly order: ByteOrder;
  readonly #seams: Pick<Seams, 'faults' | 'log'>;
  #bytes = new Uint8Array(0);
  /** Where the header of the last capability is. */
  #last = 0;

  constructor(seams: Pick<Seams, 'faults' | 'log'>, order: ByteOrder) {
    this.#seams = seams;
    this.order = order;
  }

  /** Bytes of the whole chain. */
  get size(): number {
    return this.#bytes.length;
  }

  /** The chain; a view that the next addition replaces. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /**
   * Appends room for a capability: zeros, rounded up so that the next one is aligned, with its header filled in.
   *
   * @param size - bytes, header included
   * @returns the capability's bytes in the chain, valid until the next addition
   * @throws ENOMEM - no memory; the chain is empty then
   * @source drivers/vfio/vfio_main.c vfio_info_cap_add()
   */
  add(size: number, id: number, version: number): Uint8Array {
    try {
      this.#seams.faults.check('vfio_info_cap_add:memory');
    } catch (error) {
      this.#bytes = new Uint8Array(0);
      this.#last = 0;
      throw error;
    }
    const at = this.#bytes.length;
    const padded = Math.ceil(size / capAlign) * capAlign;
    const grown = new Uint8Array(at + padded);
    grown.set(this.#bytes);
    this.#bytes = grown;
    if (at > 0) this.#link(this.#last, at);
    this.#last = at;
    const cap = grown.subarray(at, at + size);
    infoCapHeader.write(cap, { id, version }, this.order);
    return cap;
  }

  /**
   * Appends a copy of a capability that is complete but for its `next`.
   *
   * @param cap - as `Struct.encode` made it with `order`, flexible array included
   * @throws ENOMEM - no memory; the chain is empty then
   * @source drivers/vfio/vfio_main.c vfio_info_add_capability()
   */
  addCapability(cap: Uint8Array): void {
    const { id, version } = infoCapHeader.decode(cap, this.order);
    const copy = this.add(cap.length, id, version);
    copy.set(cap.subarray(infoCapHeader.size), infoCapHeader.size);
  }

  /**
   * Moves every `next` by the size of the struct that the chain follows.
   *
   * @param offset - bytes; warned about when it would leave the capabilities unaligned
   * @source drivers/vfio/vfio_main.c vfio_info_cap_shift()
   */
  shift(offset: number): void {
    this.#seams.log.warnOn(offset % capAlign !== 0, `vfio_info_cap_shift: offset ${offset} is not aligned`);
    if (this.#bytes.length === 0) return;
    let at = 0;
    for (;;) {
      const { next } = infoCapHeader.decode(this.#bytes.subarray(at), this.order);
      if (next === 0) return;
      this.#link(at, next + offset);
      at = next;
    }
  }

  /** Sets the `next` of the capability at `at`. */
  #link(at: number, next: number): void {
    const view = new DataView(this.#bytes.buffer);
    view.setUint32(at + infoCapHeader.offsetOf('next'), next, this.order === 'little');
  }
}

/** What every INFO struct begins with or has somewhere. */
export interface InfoFields {
  argsz: number;
  flags: number;
  capOffset: number;
}

/**
 * Writes the answer of an INFO request. With capabilities the CAPS flag is set; when the caller's buffer has room for all
 * of them they follow the struct, otherwise `argsz` tells the size that would do and `capOffset` is 0. Nothing is written
 * past the caller's `argsz`; of a struct that is longer only the beginning.
 *
 * @param layout - of the struct, whose size is a multiple of 8
 * @param info - the answer, `argsz` still as the caller gave it; changed as written
 * @param caps - its chain, shifted when it is written
 * @param capsFlag - the CAPS bit of this struct's flags
 * @throws EFAULT - the buffer is not writable
 * @source drivers/vfio/vfio_main.c vfio_get_region_info(); drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_get_info()
 */
export function writeInfo<F extends Fields>(
  call: Pick<IoctlCall, 'copyOut' | 'order'>,
  layout: Struct<F>,
  info: ValueOf<F> & InfoFields & InitOf<F>,
  caps: InfoCap,
  capsFlag: number,
): void {
  const provided = info.argsz;
  if (caps.size > 0) {
    const needed = layout.size + caps.size;
    info.flags |= capsFlag;
    if (provided < needed) {
      info.argsz = needed;
      info.capOffset = 0;
    } else {
      caps.shift(layout.size);
      call.copyOut(caps.bytes, layout.size);
      info.capOffset = layout.size;
    }
  }
  call.copyOut(layout.encode(info, call.order).subarray(0, provided));
}
