/* What is alive on a host at some moment, to tell it from what somebody leaves there later. */
import type { Leak, Seams } from '@vfio/host';

/** Event loop turns in which work that nobody awaits may come to its end. */
const SETTLE_TURNS = 3;

/** The state of a host's books at the time it was made. */
export class Baseline {
  readonly #host: Seams;
  readonly #oopses: number;
  readonly #warnings: number;
  readonly #alive = new Map<string, number>();

  constructor(host: Seams) {
    this.#host = host;
    this.#oopses = host.log.oopses.length;
    this.#warnings = host.log.warnings().length;
    for (const leak of host.tracker.leaks()) this.#alive.set(keyOf(leak), (this.#alive.get(keyOf(leak)) ?? 0) + 1);
  }

  /** Lets work that nobody awaits come to its end. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < SETTLE_TURNS; turn++) await nextTurn();
  }

  /** What is alive now and was not then. */
  newLeaks(): Leak[] {
    const alive = new Map(this.#alive);
    return this.#host.tracker.leaks().filter((leak) => {
      const count = alive.get(keyOf(leak)) ?? 0;
      alive.set(keyOf(leak), count - 1);
      return count <= 0;
    });
  }

  /** What has brought down a task that nobody waits for. */
  newOopses(): readonly unknown[] {
    return this.#host.log.oopses.slice(this.#oopses);
  }

  /** Texts of the WARNs since. */
  newWarnings(): string[] {
    return this.#host.log
      .warnings()
      .slice(this.#warnings)
      .map(({ text }) => text);
  }
}

/** What was left, in a line. */
export function describeLeaks(leaks: readonly Leak[]): string {
  return leaks.map(({ kind, what }) => `${kind} ${what}`).join(', ');
}

/** Descriptions may change while a thing lives; where it came from does not. */
function keyOf({ kind, what, origin }: Leak): string {
  return `${kind}\n${origin ?? what}`;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
