/*
 * What the bus and a function in one of its slots know of each other. Hardware implements `PciFunction`; the bus answers with
 * a `PciPort`. Neither knows anything of drivers.
 */
import type { DmaEngine } from '@vfio/host';

/** Bytes of one cycle. Wider ones are two cycles, low half first, unless the function says otherwise. */
export type PciWidth = 1 | 2 | 4;

/** The side of the bus that a function uses: DMA and interrupt pins. What a function may not do at the moment has no effect. */
export interface PciPort {
  /** Where the function sits, for messages: `0000:01:00.0`. */
  readonly name: string;
  /**
   * The function's way to memory and to the interrupt window. The function itself looks whether it is bus master.
   *
   * @see DmaEngine
   */
  readonly dma: DmaEngine;
  /** Asserts the interrupt pin, until `lowerIntx`. Counted by nobody: a second `raiseIntx` changes nothing. */
  raiseIntx(): void;
  /** Lets go of the interrupt pin. */
  lowerIntx(): void;
  /** Reports an error to the root port, as an AER message does: 'correctable' is only logged. */
  reportError(severity: 'correctable' | 'non-fatal' | 'fatal'): void;
}

/** What sits on one bus: functions by `devfn`. Configuration cycles reach nothing else. */
export interface PciSegment {
  /** The function that answers, if any does now. */
  at(devfn: number): PciFunction | undefined;
  /** Every devfn that is answered for, ascending. */
  devfns(): Iterable<number>;
}

/** One function, as it answers on the bus. */
export interface PciFunction {
  /** Bytes of config space: 256 or 4096. */
  readonly configSize: number;
  /** One configuration read, naturally aligned. */
  readConfig(offset: number, width: PciWidth): number;
  /** One configuration write, naturally aligned. */
  writeConfig(offset: number, width: PciWidth, value: number): void;

  /**
   * One read in a BAR (0 to 5) or the ROM (6), naturally aligned, `offset` from its start. All ones when the function does not
   * decode the space at the moment: memory or I/O disabled in its command register, not in D0, ROM not enabled.
   */
  readBar(bar: number, offset: number, width: PciWidth): number;
  /** One write; lost when the function does not decode. */
  writeBar(bar: number, offset: number, width: PciWidth, value: number): void;
  /** One read of eight bytes, where the function tells it from two of four. */
  readBar64?(bar: number, offset: number): bigint;
  /** One write of eight bytes, as `readBar64`. */
  writeBar64?(bar: number, offset: number, value: bigint): void;

  /** Legacy VGA memory (0xa0000 to 0xbffff) and ports (0x3b0 to 0x3df), at their own addresses. */
  readLegacy?(space: 'memory' | 'io', address: number, width: PciWidth): number;
  writeLegacy?(space: 'memory' | 'io', address: number, width: PciWidth, value: number): void;

  /** Bridges: what is on the other side. */
  readonly secondary?: PciSegment;
  /**
   * SR-IOV: the virtual functions that answer now, by index; as many as NumVFs while VF Enable is set. The bus finds their
   * numbers from the capability.
   */
  virtualFunction?(index: number): PciFunction | undefined;
  /** A copy of the ROM that the platform keeps, for functions without a ROM BAR (shadow ROM). */
  readonly platformRom?: Uint8Array;

  /** Conventional reset, as the bus signals it: from the bridge above, or at power on. */
  busReset(): void;
  /** It is in its slot from now on. */
  plug(port: PciPort): void;
  /** It is taken out: it stops whatever it does, and its port does nothing any more. */
  unplug(): void;
}

/** A piece of address space, both ends inclusive. */
export interface PciWindow {
  readonly start: number;
  readonly end: number;
}

/** What lies above the first bus: a host bridge with its windows and interrupt routing. */
export interface PciRoot {
  readonly domain: number;
  /** Number of the first bus. */
  readonly bus: number;
  /** The last number that bridges may be given below it; 255 when absent. */
  readonly lastBus?: number;
  readonly segment: PciSegment;
  readonly memory: readonly PciWindow[];
  readonly io: readonly PciWindow[];
  /** Firmware describes every slot, as ACPI does. */
  readonly acpi?: boolean;
  /** Whether the kernel looks after the slots of ports; where firmware keeps them to itself, it does not. True when absent. */
  readonly nativeHotplug?: boolean;
  /** The platform's interrupt (below 24) for pin 1 to 4 of a device on the root bus; undefined: not connected. */
  routeIntx(slot: number, pin: number): number | undefined;
}
