/*
 * What is alive. Everything that somebody has to give back is tracked from its birth to its release, so that a
 * host that is shut down can say what was forgotten. In checked mode each thing remembers where it came from;
 * otherwise there is a count for each kind and nothing else.
 */
import { KernelBug } from './errors.js';
import { noteOrigin, type Origin, type OriginBoundary } from './origin.js';

const kinds = [
  'device',
  'vfio-device',
  'reference',
  'pin',
  'mapping',
  'eventfd',
  'file',
  'memory',
  'group',
  'domain',
  'module',
  'work',
  'device-set',
  'timer',
] as const;

/** The kinds of thing that are counted. */
export type LeakKind = (typeof kinds)[number];

/** Something that was not given back. */
export interface Leak {
  readonly kind: LeakKind;
  readonly what: string;
  /** Stack of where it came from; in checked mode only. */
  readonly origin?: string;
}

/** The tracker's hold on one thing. */
export interface Tracked {
  /**
   * The thing was given back.
   *
   * @throws KernelBug('double-free') - it had been given back before; in checked mode only
   */
  release(): void;
}

/** Knows what is alive in a host. */
export class Tracker {
  readonly #checked: boolean;
  readonly #counts: Record<LeakKind, number> = emptyCounts();
  readonly #live = new Set<LiveThing>();

  constructor(checked: boolean) {
    this.#checked = checked;
  }

  /**
   * Something came to life.
   *
   * @param what - describes it, as it is when somebody asks; not called in unchecked mode
   * @param outside - whose caller is where it came from, when that is not the caller of this
   */
  track(kind: LeakKind, what: () => string, outside: OriginBoundary = this.track): Tracked {
    this.#counts[kind]++;
    if (!this.#checked) return new CountedThing(this.#counts, kind);
    const thing = new LiveThing(kind, what, noteOrigin(outside), (done) => {
      this.#counts[kind]--;
      this.#live.delete(done);
    });
    this.#live.add(thing);
    return thing;
  }

  /** How many of a kind are alive. */
  count(kind: LeakKind): number {
    return this.#counts[kind];
  }

  /**
   * What is alive, oldest first. In unchecked mode there is one entry for each kind, with the number in `what`.
   */
  leaks(): Leak[] {
    if (this.#checked) {
      return [...this.#live].map(({ kind, what, origin }) => ({ kind, what: what(), origin: origin.stack }));
    }
    return kinds
      .filter((kind) => this.#counts[kind] > 0)
      .map((kind) => ({ kind, what: `${this.#counts[kind]} (which ones is known in checked mode only)` }));
  }
}

class CountedThing implements Tracked {
  readonly #kind: LeakKind;
  #counts: Record<LeakKind, number> | undefined;

  constructor(counts: Record<LeakKind, number>, kind: LeakKind) {
    this.#counts = counts;
    this.#kind = kind;
  }

  release(): void {
    if (this.#counts) this.#counts[this.#kind]--;
    this.#counts = undefined;
  }
}

class LiveThing implements Tracked {
  readonly kind: LeakKind;
  readonly what: () => string;
  readonly origin: Origin;
  readonly #gone: (thing: LiveThing) => void;
  #released: Origin | undefined;

  constructor(kind: LeakKind, what: () => string, origin: Origin, gone: (thing: LiveThing) => void) {
    this.kind = kind;
    this.what = what;
    this.origin = origin;
    this.#gone = gone;
  }

  release(): void {
    if (this.#released) {
      throw new KernelBug(
        'double-free',
        `${this.kind} ${this.what()} was released before, at ${this.#released.place}`,
        {
          origin: this.origin.stack,
        },
      );
    }
    this.#released = noteOrigin(this.release, 1);
    this.#gone(this);
  }
}

function emptyCounts(): Record<LeakKind, number> {
  return {
    device: 0,
    'vfio-device': 0,
    reference: 0,
    pin: 0,
    mapping: 0,
    eventfd: 0,
    file: 0,
    memory: 0,
    group: 0,
    domain: 0,
    module: 0,
    work: 0,
    'device-set': 0,
    timer: 0,
  };
}
