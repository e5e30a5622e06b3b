/*
 * What an open file answers to `mmap`: an object that is asked page by page (memory) or access by access (device
 * registers), as a kernel's page fault handler and the bus behind a mapping would be.
 */
import type { PageRange } from './page-range.js';

/** Width of one access of a CPU, in bytes. */
export type AccessSize = 1 | 2 | 4 | 8;

/** One page of a range: the page `index` pages from its start. */
export interface PageRef {
  readonly range: PageRange;
  readonly index: number;
}

/**
 * A mapping that a File made. All positions count from the first byte that was mapped, wherever in the file that
 * lies: `MmapRequest.offset` tells where, and a mapping keeps that in mind itself. A process that splits, forks or
 * partly unmaps the mapping goes on using the same object with the same positions.
 */
export interface Mapping {
  /** `memory`: pages; `io`: device registers, reached access by access. */
  readonly kind: 'memory' | 'io';
  /**
   * Called on the first access to a page, and again after the page was zapped. For memory: the page, of which the
   * mapping takes its own reference. For io: undefined when the access may go ahead. An io mapping without `fault`
   * is there from the start, and is gone for good where it is zapped.
   */
  fault?(pageIndex: number, write: boolean): PageRef | 'SIGBUS' | undefined;
  /** io: one load. The byte at the lowest address is the least significant one, whatever the CPU's byte order. */
  load?(offset: number, size: AccessSize): bigint | 'SIGBUS';
  /** io: one store. Absent: stores are lost. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most devices have nothing to answer to a store
  store?(offset: number, size: AccessSize, value: bigint): void | 'SIGBUS';
  /** io: the frame behind a page, for DMA to the device itself. Absent or undefined: there is none. */
  pfn?(pageIndex: number): number | undefined;
  /** A further reference came to be, by fork or by splitting; not called for the first one. */
  open?(): void;
  /** One reference is gone, the first one included. */
  close?(): void;
  /** False forbids a later `mprotect` to writable. */
  readonly mayWrite?: boolean;
}

/** A load or store that no handler saved: what a process would get as SIGSEGV or SIGBUS. */
export class SegmentationFault extends Error {
  override readonly name = 'SegmentationFault';
  readonly signal: 'SIGSEGV' | 'SIGBUS';
  /** The address that was touched. */
  readonly address: bigint;

  constructor(signal: 'SIGSEGV' | 'SIGBUS', address: bigint) {
    super(`${signal} at 0x${address.toString(16)}`);
    this.signal = signal;
    this.address = address;
  }
}
