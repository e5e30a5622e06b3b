/* Public names of @vfio/cli: the command line, and the parts that another program makes a report of. */

// The command line

export { CommandError, Exit, explain, type Failure, failureOf, UsageError } from './errors.js';
export { type SignalSource, untilInterrupted } from './interrupt.js';
export type { Io } from './io.js';
export { main } from './program.js';

// What it does

export {
  type ExercisedDevice,
  type ExerciseEvent,
  type ExerciseSummary,
  runExercise,
} from './commands/exercise.js';
export { problemsOf, waitingText } from './commands/replay.js';
export { ScriptMachines, type ScriptMachinesOptions } from './replay/machines.js';
export { type ReplayRunOptions, runReplay, type ScriptOutcome } from './replay/run.js';
export { type ServeOptions, serveMachine } from './serve.js';
export { type TracedCall, type TraceOptions, Tracer } from './trace/tracer.js';

// How it shows it

export { type Column, renderTable } from './output/table.js';
export { type OutputStream, type Progress, Terminal, type TerminalOptions } from './output/terminal.js';
