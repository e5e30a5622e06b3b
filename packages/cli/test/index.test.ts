import { expect, it } from 'vitest';
import * as api from '../src/index.js';

it('has the public names that are meant', () => {
  expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
    [
      "CommandError",
      "Exit",
      "ScriptMachines",
      "Terminal",
      "Tracer",
      "UsageError",
      "explain",
      "failureOf",
      "main",
      "problemsOf",
      "renderTable",
      "runExercise",
      "runReplay",
      "serveMachine",
      "untilInterrupted",
      "waitingText",
    ]
  `);
});
