// What is open: every descriptor, mapping and piece of native memory, with the place where it came from, so that the end of
// its owner can list what was forgotten.

/** What can be forgotten. */
export type ResourceKind = 'descriptor' | 'mapping' | 'memory' | 'watch';

/** One thing that is open. */
export interface OpenResource {
  readonly kind: ResourceKind;
  /** `eventfd 7`, `mapping of 4096 bytes` */
  readonly what: string;
  /** Stack of who opened it. */
  readonly origin: string | undefined;
}

/** An entry of the table, taken out when the thing is closed. */
export interface Entry {
  release(): void;
}

/** Everything that is open, in the order in which it was opened. */
export class OpenTable {
  readonly #open = new Set<OpenResource>();
  readonly #origins: boolean;

  /** @param origins - keeps a stack with each entry, which costs time */
  constructor(origins: boolean) {
    this.#origins = origins;
  }

  /** How many things are open, of one kind or of all. */
  count(kind?: ResourceKind): number {
    if (kind === undefined) return this.#open.size;
    let count = 0;
    for (const entry of this.#open) if (entry.kind === kind) count++;
    return count;
  }

  /** What is open. */
  list(): OpenResource[] {
    return [...this.#open];
  }

  /** Notes that something is open. */
  add(kind: ResourceKind, what: string): Entry {
    const origin = this.#origins ? new Error(what).stack : undefined;
    const entry = { kind, what, origin };
    this.#open.add(entry);
    return { release: () => void this.#open.delete(entry) };
  }
}
