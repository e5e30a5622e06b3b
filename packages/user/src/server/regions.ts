// The regions of an open device: what GET_REGION_INFO says, and the accesses to them.

import type { Device, Region } from '@vfio/client';
import { RegionInfoFlag, regionInfo, VfioError } from '@vfio/core';
import type { Process } from '@vfio/host';
import { RegionAccess, WriteMulti } from '../wire/messages.js';
import type { Call } from './call.js';
import { invalid } from './refusal.js';
import { regionCaps } from './region-caps.js';
import type { RegionFile, RegionFiles } from './region-files.js';

/** Bytes of the head of an access. */
const headBytes = RegionAccess.data;
const accessFlags = RegionInfoFlag.READ | RegionInfoFlag.WRITE;

/** Regions of one device, as they are while it is open. */
export class Regions {
  readonly #process: Process;
  readonly #fd: number;
  readonly #regions: readonly (Region | undefined)[];
  /** Where each begins in the file of the device, and its bytes. */
  readonly #starts: Float64Array;
  readonly #sizes: Float64Array;
  /** Small accesses are made on these, so that they need no view of the message. */
  readonly #small = [1, 2, 4, 8].map((width) => new Uint8Array(width));

  readonly #files: RegionFiles;

  private constructor(process: Process, fd: number, regions: readonly (Region | undefined)[], files: RegionFiles) {
    this.#files = files;
    this.#process = process;
    this.#fd = fd;
    this.#regions = regions;
    this.#starts = Float64Array.from(regions, (region) => Number(region?.offset ?? 0n));
    this.#sizes = Float64Array.from(regions, (region) => Number(region?.size ?? 0n));
  }

  /** Asks the device for all of them. One that it refuses to describe is one that it lacks. */
  static async of(process: Process, device: Device, files: RegionFiles): Promise<Regions> {
    const { numRegions } = await device.info();
    const found = new Map((await device.regions()).map((region) => [region.index, region]));
    return new Regions(
      process,
      device.fd,
      Array.from({ length: numRegions }, (_, index) => found.get(index)),
      files,
    );
  }

  get count(): number {
    return this.#regions.length;
  }

  /** DEVICE_GET_REGION_INFO. With room for all of it, a region that can be mapped comes with a descriptor. */
  info(call: Call): void | Promise<void> {
    const { argsz, index } = readInfo(call);
    if (argsz < regionInfo.size) throw invalid(`argsz is ${argsz}`);
    if (index >= this.count) throw invalid(`region ${index} of ${this.count}`);
    const region = this.#regions[index];
    if (region?.mappable) return this.#files.of(region).then((file) => describe(call, argsz, index, region, file));
    return describe(call, argsz, index, region, undefined);
  }

  /** Bytes of a region; 0 of one that is not there. */
  sizeOf(index: number): number {
    return this.#sizes[index] ?? 0;
  }

  /**
   * REGION_READ.
   *
   * @param most - bytes that may be asked for
   */
  read(call: Call, most: number): void | Promise<void> {
    const { view, at } = call;
    if (call.length < headBytes) throw invalid(`${call.length} bytes do not hold a read`);
    const region = view.getUint32(at + RegionAccess.region, true);
    const count = view.getUint32(at + RegionAccess.count, true);
    const position = this.#check(view, at, region, count, most);
    const reply = call.openReply(headBytes + count);
    copyHead(view, at, call.replyView, reply);
    if (count === 0) return undefined;
    const small = this.#smallOf(count);
    const into = small ?? call.replyBytes.subarray(reply + headBytes, reply + headBytes + count);
    const result = this.#process.pread(this.#fd, into, position);
    if (typeof result !== 'number') return this.#readLater(call, reply, region, count, small, result);
    checkCount(result, count, region);
    if (small !== undefined) {
      const bytes = call.replyBytes;
      for (let i = 0; i < count; i++) bytes[reply + headBytes + i] = small[i] ?? 0;
    }
    return undefined;
  }

  /** REGION_WRITE. */
  write(call: Call, most: number): void | Promise<void> {
    const { view, at } = call;
    if (call.length < headBytes) throw invalid(`${call.length} bytes do not hold a write`);
    const region = view.getUint32(at + RegionAccess.region, true);
    const count = view.getUint32(at + RegionAccess.count, true);
    const position = this.#check(view, at, region, count, most);
    if (call.length !== headBytes + count)
      throw invalid(`${call.length - headBytes} bytes of data, ${count} announced`);
    if (count === 0) {
      copyHead(view, at, call.replyView, openHead(call));
      return undefined;
    }
    const result = this.#process.pwrite(this.#fd, this.#dataOf(call, at + headBytes, count), position);
    if (typeof result !== 'number') {
      return result.then((written) => {
        checkCount(written, count, region);
        copyHead(view, at, call.replyView, openHead(call));
      });
    }
    checkCount(result, count, region);
    copyHead(view, at, call.replyView, openHead(call));
    return undefined;
  }

  /** REGION_WRITE_MULTI: in order, up to the first that fails. */
  async writeMulti(call: Call): Promise<void> {
    const { view, at } = call;
    if (call.length < 8) throw invalid(`${call.length} bytes do not hold a count`);
    const count = view.getBigUint64(at, true);
    if (BigInt(call.length) !== 8n + count * BigInt(WriteMulti.size)) {
      throw invalid(`${count} writes in ${call.length} bytes`);
    }
    for (let i = 0; i < Number(count); i++) {
      const entry = at + 8 + i * WriteMulti.size;
      const region = view.getUint32(entry + WriteMulti.region, true);
      const bytes = view.getUint32(entry + WriteMulti.count, true);
      const position = this.#check(view, entry, region, bytes, WriteMulti.mostBytes);
      if (bytes === 0) continue;
      const data = call.payload(entry + WriteMulti.data - at, bytes);
      checkCount(await this.#process.pwrite(this.#fd, data, position), bytes, region);
    }
    const reply = call.openReply(8);
    call.replyView.setBigUint64(reply, count, true);
  }

  /**
   * Where an access goes.
   *
   * @returns position in the file of the device
   * @throws VfioError EINVAL - no such region, not within it, or more than allowed
   */
  #check(view: DataView, at: number, region: number, count: number, most: number): number {
    const offset =
      view.getUint32(at + RegionAccess.offset, true) + view.getUint32(at + RegionAccess.offsetHigh, true) * 2 ** 32;
    const size = this.#sizes[region];
    if (size === undefined) throw invalid(`region ${region} of ${this.count}`);
    if (count > most) throw invalid(`${count} bytes, ${most} at most`);
    // what does not fit a double is far beyond every region, and stays so when it is rounded
    if (offset + count > size) throw invalid(`${count} bytes at ${offset} of region ${region}, which has ${size}`);
    return (this.#starts[region] ?? 0) + offset;
  }

  #smallOf(count: number): Uint8Array | undefined {
    if (count > 8) return undefined;
    return this.#small[count === 1 ? 0 : count === 2 ? 1 : count === 4 ? 2 : count === 8 ? 3 : 4];
  }

  /** The data of a write. Small ones are copied: a device that takes its time gets bytes of its own. */
  #dataOf(call: Call, from: number, count: number): Uint8Array {
    const small = this.#smallOf(count);
    if (small === undefined) return call.payload(from - call.at, count);
    for (let i = 0; i < count; i++) small[i] = call.view.getUint8(from + i);
    return small;
  }

  async #readLater(
    call: Call,
    at: number,
    region: number,
    count: number,
    small: Uint8Array | undefined,
    result: Promise<number>,
  ): Promise<void> {
    using memory = call.giveReplyAway();
    checkCount(await result, count, region);
    const reply = openHead(call, count);
    copyHead(call.view, call.at, call.replyView, reply);
    call.replyBytes.set(small ?? memory.bytes.subarray(at + headBytes, at + headBytes + count), reply + headBytes);
  }
}

/** Begins a reply with the head of an access and `count` bytes. */
function openHead(call: Call, count = 0): number {
  return call.openReply(headBytes + count);
}

/** Answers what a region is. */
function describe(
  call: Call,
  argsz: number,
  index: number,
  region: Region | undefined,
  file: RegionFile | undefined,
): void {
  const size = region?.size ?? 0n;
  const access = size === 0n || region === undefined ? 0 : region.flags & accessFlags;
  const caps = regionCaps(region, file);
  const needed = regionInfo.size + caps.length;
  const whole = argsz >= needed;
  const flags = access | (file ? RegionInfoFlag.MMAP : 0) | (whole && caps.length > 0 ? RegionInfoFlag.CAPS : 0);
  const at = call.openReply(whole ? needed : regionInfo.size);
  const capOffset = whole && caps.length > 0 ? regionInfo.size : 0;
  call.replyBytes.set(regionInfo.encode({ argsz: needed, flags, index, capOffset, size, offset: 0n }, 'little'), at);
  if (!whole) return;
  call.replyBytes.set(caps, at + regionInfo.size);
  if (file) call.attachFds([file.fd]);
}

/** A reply repeats offset, region and count. */
function copyHead(from: DataView, at: number, into: DataView, reply: number): void {
  for (let word = 0; word < headBytes; word += 4) into.setUint32(reply + word, from.getUint32(at + word, true), true);
}

function checkCount(done: number, count: number, region: number): void {
  if (done !== count) throw new VfioError('EIO', `${done} of ${count} bytes`, { subject: `region ${region}` });
}

function readInfo(call: Call): { argsz: number; index: number } {
  if (call.length < regionInfo.size) throw invalid(`${call.length} bytes do not hold a request`);
  return regionInfo.decode(call.payload(0, regionInfo.size), 'little');
}
