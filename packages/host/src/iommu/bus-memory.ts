/* Physical memory as bus masters reach it: they can wait for windows that have to ask somebody. */
import type { PhysicalMemory } from '../mm/physical-memory.js';
import type { DmaMemory } from './dma.js';

/** What engines of a host read and write. */
export class BusMemory implements DmaMemory {
  readonly #memory: PhysicalMemory;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  get epoch(): number {
    return this.#memory.epoch;
  }

  read(phys: number, into: Uint8Array): void | Promise<void> {
    return this.#memory.readBus(phys, into);
  }

  write(phys: number, from: Uint8Array): void | Promise<void> {
    return this.#memory.writeBus(phys, from);
  }

  view(phys: number, length: number): Uint8Array | undefined {
    return this.#memory.view(phys, length);
  }

  page(phys: number, write: boolean): Uint8Array | undefined {
    return this.#memory.page(phys, write);
  }
}
