/* How memory, files and pins are asked of an address space. */
import type { File } from '../fs/file.js';
import type { Prot } from './layout.js';
import type { Mapping } from './mapping.js';

/** Where and how something is to be mapped. */
export interface MapOptions {
  /** A wish, or with `fixed` an order. Page aligned. */
  readonly addr?: bigint;
  readonly length: number | bigint;
  readonly prot: Prot;
  /** Writes are seen by whoever maps the same; default is a private copy. */
  readonly shared?: boolean;
  /** MAP_FIXED: exactly at `addr`, replacing what is there. */
  readonly fixed?: boolean;
  /** The caller may map below 64 KiB (CAP_SYS_RAWIO). */
  readonly lowAddresses?: boolean;
}

/** Anonymous memory. */
export interface AnonymousMapOptions extends MapOptions {
  /** MAP_HUGETLB: pages of 2 MiB out of the pool. */
  readonly hugetlb?: boolean;
}

/** A file that has agreed to be mapped. */
export interface FileMapOptions extends MapOptions {
  readonly file: File;
  readonly mapping: Mapping;
  /** Bytes from the start of the file, page aligned. */
  readonly offset: number;
  /** Protections that the descriptor's access mode allows at all. */
  readonly mayProt: Prot;
}

/** How to pin. */
export interface PinOptions {
  /** Gives the pages before the first that cannot be pinned, instead of failing; at least one. */
  readonly partial?: boolean;
}
