/*
 * What a bus master remembers of translations, as the IOTLB of hardware: the pages that it has reached of late, with the
 * bytes behind them. Nobody flushes it from outside; whoever may have made an entry wrong has a number that changes then,
 * and the next request looks at it.
 */
import { type IommuDomain, IommuProt } from './domain.js';

/** What an entry is for, however large the entries of the table are. */
export const IOTLB_PAGE_SIZE = 4096;

/**
 * Pages with an entry, each in the slot that its number chooses. A device works on a few at a time: a ring, what its
 * descriptors point at, a place for its status. It is few pages too because each keeps its bytes alive until the next request.
 */
const SLOTS = 8;

/** The memory behind entries, as far as they can become wrong with it. */
export interface IotlbMemory {
  readonly epoch?: number;
}

/** Entries of one bus master, all of one domain. */
export class Iotlb {
  readonly #memory: IotlbMemory;
  #domain: IommuDomain | undefined;
  #generation = 0;
  #epoch: number | undefined;
  readonly #pages: number[] = new Array(SLOTS).fill(-1);
  readonly #prots: number[] = new Array(SLOTS).fill(0);
  readonly #bytes: (Uint8Array | undefined)[] = new Array(SLOTS).fill(undefined);

  constructor(memory: IotlbMemory) {
    this.#memory = memory;
  }

  /**
   * The bytes of a page, if there is an entry that still holds.
   *
   * @param domain - what the request goes through; entries of any other are dropped
   */
  find(domain: IommuDomain, page: number, write: boolean): Uint8Array | undefined {
    this.#flushUnless(domain);
    const slot = page & (SLOTS - 1);
    const allowed = (this.#prots[slot] ?? 0) & (write ? IommuProt.WRITE : IommuProt.READ);
    return this.#pages[slot] === page && allowed !== 0 ? this.#bytes[slot] : undefined;
  }

  /**
   * Makes an entry, in the place of another one.
   *
   * @param prot - what may be done with these bytes, not more than the mapping permits
   */
  fill(domain: IommuDomain, page: number, prot: number, bytes: Uint8Array): void {
    this.#flushUnless(domain);
    const slot = page & (SLOTS - 1);
    this.#pages[slot] = page;
    this.#prots[slot] = prot;
    this.#bytes[slot] = bytes;
  }

  #flushUnless(domain: IommuDomain): void {
    const { generation } = domain;
    const { epoch } = this.#memory;
    if (this.#domain === domain && this.#generation === generation && this.#epoch === epoch) return;
    this.#domain = domain;
    this.#generation = generation;
    this.#epoch = epoch;
    this.#pages.fill(-1);
    this.#bytes.fill(undefined);
  }
}
