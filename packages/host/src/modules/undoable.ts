/*
 * The usual module: what `init` did is undone in reverse order, by a failing `init` itself or by `exit`.
 */
import { Undo } from '../undo.js';
import type { ModuleContext, ModuleSpec } from './module.js';

/**
 * Makes `init` and `exit` of a module from its steps.
 *
 * @param steps - does one thing after the other, and tells `undo` how to take each back
 */
export function undoable(
  steps: (undo: Undo, context: ModuleContext) => void | Promise<void>,
): Pick<ModuleSpec, 'init' | 'exit'> {
  let done: Undo | undefined;
  return {
    async init(context) {
      const undo = new Undo();
      try {
        await steps(undo, context);
      } catch (error) {
        await undo[Symbol.asyncDispose]();
        throw error;
      }
      done = undo;
    },
    async exit() {
      await done?.[Symbol.asyncDispose]();
      done = undefined;
    },
  };
}
