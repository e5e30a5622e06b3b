/*
 * The interrupt controller of a host: it numbers lines, and hands out the vectors that devices raise by writing a message.
 */
import { KernelBug, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import { IdAllocator } from '../sync/ids.js';
import { IrqLine, type IrqTrigger } from './line.js';

/** What a device writes to raise a message signalled interrupt. */
export interface MsiMessage {
  readonly address: bigint;
  /** 32 bits */
  readonly data: number;
}

/** A vector: an edge interrupt and the message that raises it. */
export interface IrqVector {
  readonly line: IrqLine;
  readonly message: MsiMessage;
}

/** How vectors are wanted. */
export interface VectorRequest {
  /** fewer than this is a failure */
  readonly min: number;
  readonly max: number;
  /** one block whose messages differ in the low bits of `data` only, a power of two of them, as plain MSI needs it */
  readonly contiguous?: boolean;
}

/** How large a controller is. */
export interface InterruptOptions {
  /** CPUs that can take messages, 1 to 255; each has 192 vectors for devices. Default 4. */
  readonly cpus?: number;
}

/** Where messages go. Source: arch/x86/include/asm/msi.h X86_MSI_BASE_ADDRESS_LOW */
const MSI_WINDOW = { start: 0xfee0_0000n, end: 0xfeef_ffffn } as const;
/** The vectors below belong to exceptions, those above to the system. */
const FIRST_VECTOR = 0x20;
const VECTORS_PER_CPU = 192;
const CPU_SHIFT = 12n;
/** Multiple message MSI ends at this many. */
const MAX_BLOCK = 32;
/** Numbers below belong to lines that firmware describes. */
const FIRST_DYNAMIC_IRQ = 24;
const MAX_IRQ = 0xffff;

/**
 * Gives out lines and vectors.
 *
 * @source kernel/irq/irqdomain.c, kernel/irq/matrix.c, arch/x86/kernel/apic/vector.c
 */
export class InterruptController {
  /** CPUs that can take messages. */
  readonly cpus: number;
  readonly #seams: Seams;
  readonly #irqs: IdAllocator;
  readonly #lines = new Map<number, IrqLine>();
  /** Vectors by their place: CPU times 192 plus vector. A hole is free. */
  readonly #vectors: (IrqVector | undefined)[];
  #used = 0;

  /** @throws RangeError - not a number of CPUs */
  constructor(seams: Seams, options: InterruptOptions = {}) {
    const { cpus = 4 } = options;
    if (!Number.isInteger(cpus) || cpus < 1 || cpus > 255) throw new RangeError(`not a number of CPUs: ${cpus}`);
    this.cpus = cpus;
    this.#seams = seams;
    this.#irqs = new IdAllocator(seams, 'irq', MAX_IRQ, FIRST_DYNAMIC_IRQ);
    this.#vectors = new Array<IrqVector | undefined>(cpus * VECTORS_PER_CPU).fill(undefined);
  }

  /** Lines and vectors by number. */
  get lines(): ReadonlyMap<number, IrqLine> {
    return this.#lines;
  }

  /** Vectors that could be handed out. */
  get freeVectors(): number {
    return this.#vectors.length - this.#used;
  }

  /**
   * Makes a line.
   *
   * @param irq - the number that firmware gave it, below 24; the lowest free one from 24 on when absent
   * @throws EEXIST - the number is taken
   * @throws ENOSPC - no number is left
   */
  allocLine(trigger: IrqTrigger, irq?: number): IrqLine {
    if (irq !== undefined && (irq >= FIRST_DYNAMIC_IRQ || irq < 0 || !Number.isInteger(irq))) {
      throw new RangeError(`firmware's interrupts have numbers below ${FIRST_DYNAMIC_IRQ}: ${irq}`);
    }
    if (irq !== undefined && this.#lines.has(irq)) {
      throw new SystemError('EEXIST', 'the number is taken', { syscall: 'irq_alloc_descs', subject: `IRQ ${irq}` });
    }
    this.#seams.faults.check('irq_alloc_descs:desc');
    const line = new IrqLine(this.#seams, irq ?? this.#irqs.alloc(), trigger);
    this.#lines.set(line.irq, line);
    return line;
  }

  /**
   * Gives a line back.
   *
   * @throws KernelBug('use-after-free') - handlers are installed
   */
  freeLine(line: IrqLine): void {
    if (this.#lines.get(line.irq) !== line) throw new KernelBug('double-free', `IRQ ${line.irq} is not in use`);
    line.retire();
    this.#lines.delete(line.irq);
    if (line.irq >= FIRST_DYNAMIC_IRQ) this.#irqs.free(line.irq);
  }

  /**
   * Takes as many vectors as there are between `min` and `max`.
   *
   * @returns the vectors, in the order of their messages if contiguous
   * @throws ERANGE - min is 0, or above max
   * @throws ENOSPC - fewer than `min` are left; nothing was taken
   * @throws ENOMEM - no memory; nothing was taken
   * @source drivers/pci/msi/api.c pci_alloc_irq_vectors_affinity()
   */
  allocVectors(request: VectorRequest): IrqVector[] {
    const { min, max, contiguous = false } = request;
    if (min < 1 || max < min) throw this.#error('ERANGE', `${min} to ${max} vectors`);
    this.#seams.faults.check('irq_domain_alloc_irqs:vectors', 'ENOSPC');
    const places = contiguous ? this.#findBlock(min, max) : this.#findAny(max);
    if (places.length < min) throw this.#error('ENOSPC', `${min} vectors wanted, ${places.length} left`);
    const vectors: IrqVector[] = [];
    try {
      for (const place of places) vectors.push(this.#take(place));
    } catch (error) {
      this.freeVectorsOf(vectors);
      throw error;
    }
    return vectors;
  }

  /**
   * Gives vectors back.
   *
   * @throws KernelBug('use-after-free') - handlers are installed
   */
  freeVectorsOf(vectors: readonly IrqVector[]): void {
    for (const vector of vectors) {
      this.freeLine(vector.line);
      this.#vectors[placeOf(vector.message)] = undefined;
      this.#used--;
    }
  }

  /** Whether a write to this address is an interrupt message. */
  isDoorbell(address: bigint): boolean {
    return address >= MSI_WINDOW.start && address <= MSI_WINDOW.end;
  }

  /**
   * A message has arrived: the vector's handlers run before this returns, if it is enabled. One that belongs to nobody is
   * logged and dropped; one whose vector nobody has requested is lost, since such a vector is not switched on.
   */
  deliver(message: MsiMessage): void {
    const vector = this.isDoorbell(message.address) ? this.#vectors[placeOf(message)] : undefined;
    if (vector !== undefined) {
      if (vector.line.requested) vector.line.pulse();
      return;
    }
    const { log } = this.#seams;
    if (!log.rateLimit('irq: no handler')) return;
    const cpu = (message.address - MSI_WINDOW.start) >> CPU_SHIFT;
    log.emerg(`__common_interrupt: ${cpu}.${message.data & 0xff} No irq handler for vector`);
  }

  #take(place: number): IrqVector {
    const line = this.allocLine('edge-rising');
    const cpu = Math.floor(place / VECTORS_PER_CPU);
    const message = {
      address: MSI_WINDOW.start | (BigInt(cpu) << CPU_SHIFT),
      data: FIRST_VECTOR + (place % VECTORS_PER_CPU),
    };
    const vector: IrqVector = { line, message };
    this.#vectors[place] = vector;
    this.#used++;
    return vector;
  }

  #findAny(max: number): number[] {
    const places: number[] = [];
    for (let place = 0; place < this.#vectors.length && places.length < max; place++) {
      if (this.#vectors[place] === undefined) places.push(place);
    }
    return places;
  }

  /** The largest block that is free, aligned to its size so that only low bits of `data` change inside of it. */
  #findBlock(min: number, max: number): number[] {
    for (let size = Math.min(MAX_BLOCK, 2 ** Math.floor(Math.log2(max))); size >= 1 && size >= min; size /= 2) {
      for (let base = 0; base < this.#vectors.length; base += size) {
        const block = Array.from({ length: size }, (_, offset) => base + offset);
        if (block.every((place) => this.#vectors[place] === undefined)) return block;
      }
    }
    return [];
  }

  #error(code: 'ERANGE' | 'ENOSPC', reason: string): SystemError {
    return new SystemError(code, reason, { syscall: 'pci_alloc_irq_vectors' });
  }
}

/** The place of a message in the table; -1 for one that is not in it. */
function placeOf(message: MsiMessage): number {
  const vector = (message.data & 0xff) - FIRST_VECTOR;
  if (vector < 0 || vector >= VECTORS_PER_CPU) return -1;
  return Number((message.address - MSI_WINDOW.start) >> CPU_SHIFT) * VECTORS_PER_CPU + vector;
}
