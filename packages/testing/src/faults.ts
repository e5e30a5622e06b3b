/*
 * Every step fails once. A scenario runs undisturbed and its fallible steps are written down; then it runs again for each
 * of them, on a fresh host, with that step failing. Whatever the scenario does about the failure, nothing may be left behind.
 */
import { type FaultStep, isSystemError, type Seams } from '@vfio/host';
import { Baseline, describeLeaks } from './baseline.js';

/** What a scenario runs in: a host, and whatever else was prepared on it. */
export interface FaultContext extends Partial<AsyncDisposable> {
  readonly host: Seams;
}

/** A scenario and what is expected of it. */
export interface FaultPlan<C extends FaultContext> {
  /**
   * Makes a fresh host with all that the scenario presupposes; nothing fails here. What is alive afterwards does not count as
   * left behind. A context that is `AsyncDisposable` is disposed of at the end of its run, and must not throw then.
   */
  prepare(): C | Promise<C>;
  /**
   * Does something and undoes it. In the undisturbed run it has to succeed; with a failing step it may succeed or throw, but
   * nothing other than a `SystemError`.
   */
  scenario(context: C): unknown;
  /**
   * Looks whether all is as before, by throwing if not.
   *
   * @param failed - the step that failed; undefined after the undisturbed run
   */
  check?(context: C, failed: FaultStep | undefined): void | Promise<void>;
  /** Steps to be left alone: those whose failure the kernel does not survive either. */
  skip?(step: FaultStep): boolean;
  /** After this long, by the machine's clock, a run hangs. Default 5000. */
  readonly timeoutMs?: number;
}

/** What was tried. */
export interface FaultReport {
  /** The steps of the undisturbed run, in their order; each of them but the skipped has failed once. */
  readonly steps: readonly FaultStep[];
}

/** One run of a scenario did not leave things as they were. */
export class FaultRunError extends Error {
  override readonly name = 'FaultRunError';
  /** The step that was made to fail; undefined in the undisturbed run. */
  readonly step: FaultStep | undefined;
  /** Its number, from 0; -1 in the undisturbed run. */
  readonly index: number;

  constructor(index: number, step: FaultStep | undefined, problem: string, cause?: unknown) {
    const when = step === undefined ? 'undisturbed' : `with step ${index} '${step.name}' failing (${step.code})`;
    super(`${when}: ${problem}`, cause === undefined ? undefined : { cause });
    this.step = step;
    this.index = index;
  }
}

const DEFAULT_TIMEOUT_MS = 5000;

/**
 * Runs a scenario once for each of its fallible steps.
 *
 * @returns the steps, so that a test can say which it expects
 * @throws FaultRunError - the undisturbed run, or exactly one other, went wrong
 * @throws AggregateError - several runs went wrong; its message names the step of each
 */
export async function forEachFault<C extends FaultContext>(plan: FaultPlan<C>): Promise<FaultReport> {
  const steps = await runUndisturbed(plan);
  const failures: FaultRunError[] = [];
  for (const [index, step] of steps.entries()) {
    if (plan.skip?.(step) === true) continue;
    const failure = await runWithFault(plan, index, step);
    if (failure !== undefined) failures.push(failure);
  }
  const [first] = failures;
  if (first !== undefined && failures.length === 1) throw first;
  if (failures.length > 1) {
    const list = failures.map(({ message }) => `\n  ${message}`).join('');
    throw new AggregateError(
      failures,
      `${failures.length} of ${steps.length} failing steps leave something behind:${list}`,
    );
  }
  return { steps };
}

async function runUndisturbed<C extends FaultContext>(plan: FaultPlan<C>): Promise<readonly FaultStep[]> {
  const context = await plan.prepare();
  const before = new Baseline(context.host);
  const recording = context.host.faults.record();
  try {
    await withTimeout(plan, () => plan.scenario(context));
  } catch (cause) {
    throw new FaultRunError(-1, undefined, `the scenario throws ${describe(cause)}`, cause);
  } finally {
    recording.stop();
  }
  const problem = await inspect(plan, context, before, undefined);
  if (problem !== undefined) throw new FaultRunError(-1, undefined, problem.text, problem.cause);
  return recording.steps;
}

async function runWithFault<C extends FaultContext>(
  plan: FaultPlan<C>,
  index: number,
  step: FaultStep,
): Promise<FaultRunError | undefined> {
  const context = await plan.prepare();
  const before = new Baseline(context.host);
  const arm = context.host.faults.failAt(index);
  try {
    await withTimeout(plan, () => plan.scenario(context));
  } catch (cause) {
    if (!isSystemError(cause)) return new FaultRunError(index, step, `the scenario throws ${describe(cause)}`, cause);
  } finally {
    arm.disarm();
  }
  if (arm.step !== step.name) {
    const met = arm.step === undefined ? 'no such step is reached' : `'${arm.step}' is there instead`;
    return new FaultRunError(index, step, `the scenario does not repeat itself: ${met}`);
  }
  const problem = await inspect(plan, context, before, step);
  return problem && new FaultRunError(index, step, problem.text, problem.cause);
}

interface Problem {
  readonly text: string;
  readonly cause?: unknown;
}

/** Looks at what a run left, and ends its context. */
async function inspect<C extends FaultContext>(
  plan: FaultPlan<C>,
  context: C,
  before: Baseline,
  failed: FaultStep | undefined,
): Promise<Problem | undefined> {
  await before.settle();
  const left = before.newLeaks();
  if (left.length > 0) return { text: `left behind: ${describeLeaks(left)}` };
  const [oops] = before.newOopses();
  if (oops !== undefined) return { text: `in the background: ${describe(oops)}`, cause: oops };
  try {
    await plan.check?.(context, failed);
    await context[Symbol.asyncDispose]?.();
  } catch (cause) {
    return { text: `afterwards: ${describe(cause)}`, cause };
  }
  return undefined;
}

/** A lost wake-up shows as a scenario that never ends. */
async function withTimeout<C extends FaultContext>(plan: FaultPlan<C>, fn: () => unknown): Promise<void> {
  const timeoutMs = plan.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  let timer: NodeJS.Timeout | undefined;
  const hang = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not finished after ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([(async () => await fn())(), hang]);
  } finally {
    clearTimeout(timer);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
