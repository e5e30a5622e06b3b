/*
 * A host bridge: the first bus, the addresses that are passed on to it, and where its pins lead.
 */
import type { PciRoot, PciWindow } from '../bus/function.js';
import { EmulatedSegment } from './segment.js';

/** A host bridge's windows and wiring. */
export interface RootOptions {
  readonly domain?: number;
  /** Number of the first bus. */
  readonly bus?: number;
  /** The last bus that may be below it. */
  readonly lastBus?: number;
  readonly memory?: readonly PciWindow[];
  readonly io?: readonly PciWindow[];
  readonly acpi?: boolean;
  readonly nativeHotplug?: boolean;
  /** Interrupts of pins; those of q35 by default. */
  readonly routeIntx?: (slot: number, pin: number) => number | undefined;
}

const LINES = 4;
/** Slots in front of the chipset's have lines of their own. */
const SLOT_LINES = 20;
const CHIPSET_LINES = 16;
const FIRST_CHIPSET_SLOT = 25;

/** Windows of a machine whose memory ends below 3 GB, and what is above 4 GB for BARs of 64 bits. */
const DEFAULT_MEMORY: readonly PciWindow[] = [
  { start: 0xc000_0000, end: 0xfebf_ffff },
  { start: 0x80_0000_0000, end: 0xff_ffff_ffff },
];
const DEFAULT_IO: readonly PciWindow[] = [{ start: 0x1000, end: 0xffff }];

/** A host bridge, with nothing in its slots yet. */
export class EmulatedRoot implements PciRoot {
  readonly domain: number;
  readonly bus: number;
  readonly lastBus?: number;
  readonly segment = new EmulatedSegment();
  readonly memory: readonly PciWindow[];
  readonly io: readonly PciWindow[];
  readonly acpi?: boolean;
  readonly nativeHotplug: boolean;
  readonly #route: (slot: number, pin: number) => number | undefined;

  constructor(options: RootOptions = {}) {
    this.domain = options.domain ?? 0;
    this.bus = options.bus ?? 0;
    this.memory = options.memory ?? DEFAULT_MEMORY;
    this.io = options.io ?? DEFAULT_IO;
    this.nativeHotplug = options.nativeHotplug ?? true;
    if (options.lastBus !== undefined) this.lastBus = options.lastBus;
    if (options.acpi !== undefined) this.acpi = options.acpi;
    this.#route = options.routeIntx ?? routeQ35;
  }

  routeIntx(slot: number, pin: number): number | undefined {
    return this.#route(slot, pin);
  }
}

/** Pins of the chipset's functions have a line each; those of each other slot begin at the next one. */
function routeQ35(slot: number, pin: number): number {
  if (slot >= FIRST_CHIPSET_SLOT) return CHIPSET_LINES + pin - 1;
  return SLOT_LINES + ((slot + pin - 1) % LINES);
}
