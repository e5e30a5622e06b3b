/*
 * What is known of a function of a real machine: its config space as bytes, and what somebody found out about it.
 */

/** A BAR as the kernel of that machine had it. */
export interface RecordedBar {
  /** 0 to 5. */
  readonly index: number;
  /** Bytes; a power of two. */
  readonly size: number;
  readonly space: 'memory' | 'io';
  readonly wide: boolean;
  readonly prefetch: boolean;
}

/** What registers did when they were written, for those who have tried. */
export interface RecordedWrites {
  /** What each read back after ones were written to it. */
  readonly ones: Uint8Array;
  readonly zeros: Uint8Array;
  /** What each had after its first value was written back. */
  readonly after: Uint8Array;
}

/** A function of a real machine. */
export interface FunctionRecord {
  readonly domain: number;
  readonly bus: number;
  readonly devfn: number;
  /** 64, 256 or 4096 bytes. */
  readonly config: Uint8Array;
  readonly bars: readonly RecordedBar[];
  /** Bytes of its ROM BAR; 0: it has none. */
  readonly romSize: number;
  /** BARs that each of its virtual functions has. */
  readonly vfBars: readonly RecordedBar[];
  readonly writes?: RecordedWrites;
  /** Where it stands in a dump, for errors. */
  readonly line?: number;
  /** What it is, in words. */
  readonly description?: string;
}

/** Bytes that somebody has read in a BAR or in the ROM. */
export interface RecordedContents {
  readonly domain: number;
  readonly bus: number;
  readonly devfn: number;
  readonly where: number | 'rom';
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** `0000:01:00.0`. */
export function parseAddress(text: string): { domain: number; bus: number; devfn: number } | undefined {
  const match = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/i.exec(text);
  if (!match) return undefined;
  const [domain = 0, bus = 0, slot = 0, fn = 0] = match.slice(1).map((digits) => Number.parseInt(digits ?? '0', 16));
  return slot > 0x1f ? undefined : { domain, bus, devfn: (slot << 3) | fn };
}
