/*
 * The ladder of labels at the end of a kernel function, as an object: each step that succeeded adds how to take it
 * back, and leaving the scope takes all back unless the end was reached.
 */

/** The usual end: all was kept. */
const nothingToDo = Promise.resolve();

/**
 * Steps to take back when a scope is left early.
 *
 * ```ts
 * await using undo = new Undo();
 * group.users++;
 * undo.add(() => { group.users--; });
 * await openDevice();
 * undo.keep();
 * ```
 */
export class Undo implements AsyncDisposable {
  #steps: (() => void | Promise<void>)[] | undefined;

  /** Adds a step; the last one added runs first. */
  add(fn: () => void | Promise<void>): void {
    if (this.#steps) this.#steps.push(fn);
    else this.#steps = [fn];
  }

  /** All went well: forgets the steps added so far. */
  keep(): void {
    this.#steps = undefined;
  }

  /**
   * Takes all back, each step once, also when one of them fails.
   *
   * @throws what the failing step threw; an `AggregateError` when several did
   */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#steps ? this.#takeBack(this.#steps) : nothingToDo;
  }

  async #takeBack(steps: (() => void | Promise<void>)[]): Promise<void> {
    const errors: unknown[] = [];
    for (let step = steps.pop(); step; step = steps.pop()) {
      try {
        const pending = step();
        if (pending !== undefined) await pending;
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, `${errors.length} steps could not be undone`);
  }
}
