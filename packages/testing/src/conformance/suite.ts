/*
 * What VFIO promises of every device, whichever driver is behind it, as test cases: a driver package says how to make one of
 * its devices and what numbers it has, and gets the suite.
 */
import { Baseline, describeLeaks } from '../baseline.js';
import { cdevCases } from './cdev.js';
import { loggingCases } from './dma-logging.js';
import { featureCases } from './features.js';
import { infoCases } from './info.js';
import { irqCases } from './irqs.js';
import { lifetimeCases } from './lifetime.js';
import { migrationCases } from './migration.js';
import type { ConformanceRunner, DriverConformance } from './options.js';
import { ConformanceError, keeps } from './promise.js';
import { regionCases } from './regions.js';
import { requestCases } from './requests.js';
import { resetCases } from './reset.js';
import type { CaseSpec, Subject } from './subject.js';
import { prepare } from './target.js';

const all: readonly CaseSpec[] = [
  ...infoCases,
  ...regionCases,
  ...irqCases,
  ...requestCases,
  ...featureCases,
  ...resetCases,
  ...migrationCases,
  ...loggingCases,
  ...lifetimeCases,
  ...cdevCases,
];

/** One promise, ready to be held against a driver. */
export interface ConformanceCase {
  /** `<room>: <promise>` */
  readonly name: string;
  /** It takes longer than runners wait by default: how long, in milliseconds. */
  readonly timeoutMs?: number;
  /**
   * Makes a target, tries it and ends it.
   *
   * @throws ConformanceError - the driver does not keep the promise, leaves something behind or provokes a WARN of the
   *   kernel; or it is an exception, and kept after all
   */
  run(): Promise<void>;
}

/**
 * The cases that apply to a driver, for whoever runs them without a test runner.
 *
 * @throws TypeError - an exception is of no case that applies
 */
export function conformanceCases(options: DriverConformance): ConformanceCase[] {
  const specs = all.filter(({ when }) => when?.(options) ?? true);
  const { exceptions = {} } = options;
  for (const name of Object.keys(exceptions)) {
    if (!specs.some((spec) => spec.name === name)) {
      throw new TypeError(
        `no case is named '${name}': the names are ${specs.map((spec) => `'${spec.name}'`).join(', ')}`,
      );
    }
  }
  return specs.map((spec) => {
    const { name, timeoutMs } = spec;
    const why = exceptions[name];
    const run = () => (why === undefined ? runCase(options, spec) : runException(options, spec, why));
    return { name, run, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
  });
}

/**
 * Registers the suite for a driver with the test runner.
 *
 * ```ts
 * testDriver({ create: bindModel, regions: 9, irqs: 5, flags: DeviceInfoFlag.PCI, migration: true });
 * ```
 *
 * @throws TypeError - there is no runner, or an exception is of no case that applies
 */
export function testDriver(options: DriverConformance): void {
  const { describe, it } = options.runner ?? globalRunner();
  const cases = conformanceCases(options);
  describe(options.name ?? 'VFIO conformance', () => {
    for (const { name, run, timeoutMs } of cases) {
      if (timeoutMs === undefined) it(name, run);
      else it(name, run, timeoutMs);
    }
  });
}

function globalRunner(): ConformanceRunner {
  const { describe, it }: { describe?: unknown; it?: unknown } = globalThis as object;
  if (typeof describe === 'function' && typeof it === 'function') {
    return {
      describe: (name, body) => describe(name, body),
      it: (name, run, ...rest) => it(name, run, ...rest),
    };
  }
  throw new TypeError(
    "testDriver() found no globals 'describe' and 'it': give it { runner: { describe, it } } of vitest, jest, mocha or node:test",
  );
}

async function runCase(options: DriverConformance, spec: CaseSpec): Promise<void> {
  const { subject, dispose } = await prepare(options);
  try {
    await attempt(subject, spec);
  } catch (error) {
    // the first thing that went wrong says most; what ending all that is open says of it would only hide it
    await dispose().catch(() => {});
    throw firstOf(error);
  }
  await dispose();
}

/** What went wrong before the end of a scope went wrong too. */
function firstOf(error: unknown): unknown {
  return error instanceof Error && 'suppressed' in error ? firstOf(error.suppressed) : error;
}

async function attempt(subject: Subject, spec: CaseSpec): Promise<void> {
  const before = new Baseline(subject.host);
  await spec.run(subject);
  await before.settle();
  const [oops] = before.newOopses();
  if (oops !== undefined) throw new ConformanceError('No task of the kernel dies. Found: one did', { cause: oops });
  const warnings = before.newWarnings();
  keeps(warnings.length === 0, 'The kernel warns of nothing', warnings.join('; '));
  const left = before.newLeaks();
  keeps(left.length === 0, 'Nothing is left behind', describeLeaks(left));
}

/** An exception that the driver does not need any more hides a promise that it keeps. */
async function runException(options: DriverConformance, spec: CaseSpec, why: string): Promise<void> {
  try {
    await runCase(options, spec);
  } catch (error) {
    if (error instanceof ConformanceError) return;
    throw error;
  }
  throw new ConformanceError(`The driver keeps '${spec.name}' after all: take the exception out (${why})`);
}
