/*
 * Who runs next. Every primitive that may block or that takes something passes here first; an explorer answers
 * with a promise that it resolves when it is this task's turn, and so tries one interleaving after the other.
 */

/** Decides, at each point where tasks can overtake each other, who goes on. */
export interface Scheduler {
  /**
   * Called before a task takes or waits for something.
   *
   * @param label - what it is about to do: `mutex group_lock`
   * @returns undefined to go on at once, or a promise to await before going on
   */
  switchPoint(label: string): Promise<void> | undefined;
}

/** Lets everybody go on at once: the order is that of the event loop. */
export const freeRunning: Scheduler = Object.freeze({
  switchPoint: () => undefined,
});
