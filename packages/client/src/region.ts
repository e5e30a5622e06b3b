// A region of a device: registers, memory, configuration space.

import {
  type RegionInfo as RawRegionInfo,
  RegionInfoCap,
  RegionInfoFlag,
  regionInfo,
  regionInfoCapSparseMmap,
  regionInfoCapType,
  regionSparseMmapArea,
  VfioError,
} from '@vfio/core';
import type { Device } from './device.js';
import { type Capability, capabilities, elements } from './info.js';
import type { ClientMapping } from './transport.js';

/** Widths of a single access, in bytes. */
export type Width = 1 | 2 | 4 | 8;

/** A part of a region. */
export interface RegionArea {
  /** Bytes from the start of the region. */
  readonly offset: bigint;
  /** Bytes. */
  readonly size: bigint;
}

/** What a device tells of one region, and how to reach it. Positions are relative to the region. */
export class Region {
  readonly device: Device;
  readonly index: number;
  /** RegionInfoFlag bits. */
  readonly flags: number;
  /** Bytes; 0 for a region that the device does not have. */
  readonly size: bigint;
  /** Where the region starts in the file of the device. */
  readonly offset: bigint;
  readonly capabilities: readonly Capability[];

  constructor(device: Device, info: RawRegionInfo, bytes: Uint8Array) {
    this.device = device;
    this.index = info.index;
    this.flags = info.flags;
    this.size = info.size;
    this.offset = info.offset;
    const chained = (info.flags & RegionInfoFlag.CAPS) !== 0;
    const order = device.transport.byteOrder;
    this.capabilities = chained ? capabilities(bytes, regionInfo.size, info.capOffset, order) : [];
  }

  get readable(): boolean {
    return (this.flags & RegionInfoFlag.READ) !== 0;
  }

  get writable(): boolean {
    return (this.flags & RegionInfoFlag.WRITE) !== 0;
  }

  get mappable(): boolean {
    return (this.flags & RegionInfoFlag.MMAP) !== 0;
  }

  /** The areas that can be mapped, when not all of the region can; undefined if the device does not say. */
  get sparseAreas(): readonly RegionArea[] | undefined {
    const cap = this.#capability(RegionInfoCap.SPARSE_MMAP);
    if (!cap) return undefined;
    const order = this.device.transport.byteOrder;
    const { nrAreas } = regionInfoCapSparseMmap.decode(cap, order);
    return elements(cap, regionInfoCapSparseMmap.size, nrAreas, regionSparseMmapArea, order);
  }

  /** Type and subtype of a device specific region. */
  get type(): { readonly type: number; readonly subtype: number } | undefined {
    const cap = this.#capability(RegionInfoCap.TYPE);
    if (!cap) return undefined;
    const { type, subtype } = regionInfoCapType.decode(cap, this.device.transport.byteOrder);
    return { type, subtype };
  }

  /** Whether a mapping may cover the MSI-X table. */
  get msixMappable(): boolean {
    return this.#capability(RegionInfoCap.MSIX_MAPPABLE) !== undefined;
  }

  /**
   * Reads bytes; fewer come back where the region ends.
   *
   * @throws VfioError - with the kernel's errno
   */
  async read(offset: number | bigint, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    const { transport } = this.device;
    const count = await this.#call('pread', (fd) => transport.pread(fd, bytes, this.#at(offset)));
    return bytes.subarray(0, count);
  }

  /** Writes bytes; returns how many were taken. */
  write(offset: number | bigint, bytes: Uint8Array): Promise<number> {
    const { transport } = this.device;
    return this.#call('pwrite', (fd) => transport.pwrite(fd, bytes, this.#at(offset)));
  }

  /**
   * Reads one little-endian value, as the registers of buses are.
   *
   * @throws VfioError EIO - the region ends within the value
   */
  async load(offset: number | bigint, width: Width): Promise<bigint> {
    const bytes = await this.read(offset, width);
    this.#requireWhole('pread', bytes.length, width);
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  /**
   * Writes one little-endian value.
   *
   * @throws VfioError EIO - the region ends within the value
   */
  async store(offset: number | bigint, width: Width, value: number | bigint): Promise<void> {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    this.#requireWhole('pwrite', await this.write(offset, bytes.subarray(0, width)), width);
  }

  /** Maps a part of the region; whole pages. */
  mmap(offset: number | bigint = 0, length = Number(this.size)): Promise<ClientMapping> {
    const { transport } = this.device;
    const access = { read: this.readable, write: this.writable };
    return this.#call('mmap', (fd) => transport.mmap(fd, this.#at(offset), length, access));
  }

  #call<T>(syscall: string, run: (fd: number) => T | Promise<T>): Promise<T> {
    return this.device.call(syscall, run, this.#subject);
  }

  #requireWhole(syscall: string, count: number, width: Width): void {
    if (count === width) return;
    throw new VfioError('EIO', `${count} of ${width} bytes`, { syscall, subject: this.#subject });
  }

  get #subject(): string {
    return `${this.device.subject} region ${this.index}`;
  }

  #at(offset: number | bigint): bigint {
    return this.offset + BigInt(offset);
  }

  #capability(id: number): Uint8Array | undefined {
    return this.capabilities.find((cap) => cap.id === id)?.bytes;
  }
}
