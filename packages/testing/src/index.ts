/* Public names of @vfio/testing, by room. */

// Scripts

export { ScriptError } from './script/errors.js';
export { type ModuleRequest, modulesNeeded, parseHeader, type ScriptHeader, usesIommufd } from './script/header.js';
export {
  type CommandLine,
  type Line,
  type LoopBlock,
  parseScript,
  type Script,
  type SpawnBlock,
  type Statement,
} from './script/parse.js';
export type { Program, ProgramCall } from './script/programs.js';
export { type RunOptions, recordScript, runScript } from './script/run.js';
export { StepFailure } from './script/script-process.js';
export {
  formatLine,
  isStep,
  parseTranscript,
  type StepResult,
  type TranscriptEnd,
  type TranscriptFatal,
  type TranscriptLine,
  type TranscriptStep,
} from './script/transcript.js';
export type { VariableReference, Word } from './script/words.js';

// Replay

export { type CompareOptions, type Comparison, compareTranscripts, type Difference } from './replay/compare.js';
export { type Deviating, type Deviation, parseDeviations } from './replay/deviations.js';
export { findGolden, GoldenNotFoundError, loadDeviations, loadScript, loadTranscript } from './replay/files.js';
export {
  type ReplayMachine,
  type ReplayOptions,
  type ReplayResult,
  replayFile,
  replayScript,
} from './replay/replay.js';
export { formatDifference, formatReplay, formatSummary, type ReportOptions } from './replay/report.js';

// Faults and interleavings

export {
  type Exploration,
  ExplorationError,
  type ExploreOptions,
  type ExploreReport,
  type ExplorerSeams,
  explore,
} from './explorer.js';
export { type FaultContext, type FaultPlan, type FaultReport, FaultRunError, forEachFault } from './faults.js';

// Conformance of drivers

export type {
  ConformanceMachine,
  ConformanceRunner,
  ConformanceTarget,
  DriverConformance,
} from './conformance/options.js';
export { ConformanceError } from './conformance/promise.js';
export { type ConformanceCase, conformanceCases, testDriver } from './conformance/suite.js';
