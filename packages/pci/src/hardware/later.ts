/*
 * Work that a device does by itself: soon, one piece after the other, until it is reset.
 */

/** A device's own activity. */
export class Later {
  #generation = 0;
  #last: Promise<void> = Promise.resolve();

  /**
   * Does something when whoever has started it is done, and what was started before.
   *
   * @param work - is told by its argument whether it has been cancelled since
   */
  run(work: (ended: () => boolean) => void | Promise<void>): void {
    const generation = this.#generation;
    const ended = () => generation !== this.#generation;
    const before = this.#last;
    this.#last = (async () => {
      await before;
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
      if (!ended()) await work(ended);
    })();
  }

  /** What has not begun never does; what runs is told when it asks. */
  cancel(): void {
    this.#generation++;
    this.#last = Promise.resolve();
  }

  /** All that was started is done. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
