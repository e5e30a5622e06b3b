/*
 * What a file of sysfs is made of, as its owner describes it.
 */
import type { MmapRequest } from '../fs/file.js';
import type { InodeMapping } from '../mm/inode-mapping.js';
import type { Mapping } from '../mm/mapping.js';
import type { Process } from '../process/process.js';

/** A file of sysfs with text in it: one value, shown and stored as a whole. */
export interface Attribute {
  readonly name: string;
  /** Permission bits; a file without any read bit cannot be opened for reading by anybody, root included. */
  readonly mode: number;
  /** The text, in characters of one byte; at most 4095 of them. */
  show?(): string | Promise<string>;
  /**
   * Takes what was written, at most 4096 bytes and never none.
   *
   * @param text - one character for each byte
   * @param process - who writes
   * @returns how many bytes were taken; nothing means all
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: most stores take all and end without a return
  store?(text: string, process: Process): number | void | Promise<number | void>;
}

/** A file of sysfs with bytes in it, such as a configuration space. */
export interface BinAttribute {
  readonly name: string;
  readonly mode: number;
  /** Bytes; accesses are cut there. 0: unknown, nothing is cut. */
  readonly size: number;
  /**
   * @param length - bytes asked for, at most 4096
   * @param process - who reads
   * @returns at most `length` bytes
   */
  read?(offset: number, length: number, process: Process): Uint8Array | Promise<Uint8Array>;
  /** @returns how many bytes were taken; nothing means all */
  // biome-ignore lint/suspicious/noConfusingVoidType: as store
  write?(offset: number, bytes: Uint8Array, process: Process): number | void | Promise<number | void>;
  /** Absent: ENODEV. */
  mmap?(request: MmapRequest): Mapping;
  /** All mappings of the bytes, where somebody wants to zap them. */
  readonly mapping?: InodeMapping;
}

/** Attributes that come and go together, in a subdirectory if the group has a name. */
export interface AttributeGroup {
  readonly name?: string;
  readonly attributes?: readonly Attribute[];
  readonly binAttributes?: readonly BinAttribute[];
  /**
   * Asked once for each attribute when the group is added.
   *
   * @returns its permission bits; 0 leaves it out
   */
  isVisible?(attribute: Attribute | BinAttribute): number;
}
