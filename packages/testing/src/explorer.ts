/*
 * Every order of events. Tasks that run on a host pass through its scheduler before they take or wait for something; here the
 * scheduler stops them all, and a driver lets one at a time go on, again and again, until it has tried every order or as many as
 * it was asked for. An order that goes wrong is reported as a list of choices, with which it can be run again.
 *
 * Between two switch points a task may await promises as it likes, but neither real time nor the outside world: a run has to
 * repeat itself when the choices are the same.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { type Scheduler, VirtualClock } from '@vfio/host';
import { DepthFirst, type Guide, RandomWalk, Replay } from './schedules.js';

/** How orders are chosen. */
export interface ExploreOptions {
  /** Runs at most. Default 1000. */
  readonly maxRuns?: number;
  /** Picks orders at random, `maxRuns` of them, instead of one after the other. The same seed gives the same orders. */
  readonly seed?: number;
  /** Runs just this order, as an `ExplorationError` named it; `preemptions` has to be as it was then. */
  readonly replay?: readonly number[];
  /**
   * How often in a run a task that could go on is made to wait for another one. Most races need one or two; with a bound, all
   * orders of long scenarios can be tried. Default: no bound.
   */
  readonly preemptions?: number;
  /** Choices in one run at most; more is a live lock. Default 10,000. */
  readonly maxSteps?: number;
}

/** What a scenario builds its host on. */
export interface ExplorerSeams {
  /** Stops tasks while they run; lets everybody pass during preparation and checks. */
  readonly scheduler: Scheduler;
  /** Time moves only when nobody can go on otherwise. */
  readonly clock: VirtualClock;
}

/** What runs against each other. */
export interface Exploration {
  /** Started in any order; one that throws ends the run as a failure. */
  readonly tasks: Readonly<Record<string, () => unknown>>;
  /** Looks at the result when all tasks have finished, by throwing if it is wrong. */
  check?(): void | Promise<void>;
}

/** What was tried. */
export interface ExploreReport {
  readonly runs: number;
  /** Whether there is no other order, within the bound of preemptions. */
  readonly complete: boolean;
}

/** An order of events in which something goes wrong. */
export class ExplorationError extends Error {
  override readonly name = 'ExplorationError';
  /** The choices; to be given as `replay`. */
  readonly schedule: readonly number[];
  /** Who went on at which point, in order. */
  readonly trace: readonly string[];

  constructor(problem: string, schedule: readonly number[], trace: readonly string[], cause?: unknown) {
    const steps = trace.map((line) => `\n  ${line}`).join('');
    super(
      `${problem}; again with replay: [${schedule.join(', ')}]${steps}`,
      cause === undefined ? undefined : { cause },
    );
    this.schedule = schedule;
    this.trace = trace;
  }
}

const DEFAULT_RUNS = 1000;
const DEFAULT_STEPS = 10_000;
/** Event loop turns without news after which nobody is going to move by himself. */
const QUIET_TURNS = 3;

/**
 * Runs a scenario in one order of events after the other.
 *
 * @param scenario - prepares a fresh host on the seams that it is given, and says what runs on it
 * @throws ExplorationError - a task or the check threw, the tasks wait for each other, or they never end
 */
export async function explore(
  options: ExploreOptions,
  scenario: (seams: ExplorerSeams) => Exploration | Promise<Exploration>,
): Promise<ExploreReport> {
  const guide = guideFor(options);
  let runs = 0;
  do {
    await new Run(options, guide).execute(scenario);
    runs++;
  } while (guide.next() && runs < (options.maxRuns ?? DEFAULT_RUNS));
  return { runs, complete: guide.complete };
}

function guideFor(options: ExploreOptions): Guide {
  if (options.replay !== undefined) return new Replay(options.replay);
  return options.seed === undefined ? new DepthFirst() : new RandomWalk(options.seed);
}

/** A task that stands at a switch point. */
interface Parked {
  readonly task: string;
  readonly label: string;
  resume(): void;
}

/** One run in one order. */
class Run {
  readonly #guide: Guide;
  readonly #maxSteps: number;
  readonly #maxPreemptions: number;
  readonly #clock = new VirtualClock();
  readonly #currentTask = new AsyncLocalStorage<string>();
  readonly #parked: Parked[] = [];
  readonly #unfinished = new Set<string>();
  readonly #schedule: number[] = [];
  readonly #trace: string[] = [];
  #active = false;
  #failure: { readonly problem: string; readonly cause: unknown } | undefined;
  #lastTask: string | undefined;
  #preemptions = 0;
  #steps = 0;

  constructor(options: ExploreOptions, guide: Guide) {
    this.#guide = guide;
    this.#maxSteps = options.maxSteps ?? DEFAULT_STEPS;
    this.#maxPreemptions = options.preemptions ?? Number.POSITIVE_INFINITY;
  }

  async execute(scenario: (seams: ExplorerSeams) => Exploration | Promise<Exploration>): Promise<void> {
    try {
      await this.#execute(scenario);
    } finally {
      // before Node 24 each store that was ever used slows every promise of the process down
      this.#currentTask.disable();
    }
  }

  async #execute(scenario: (seams: ExplorerSeams) => Exploration | Promise<Exploration>): Promise<void> {
    const scheduler: Scheduler = { switchPoint: (label) => (this.#active ? this.#park(label) : undefined) };
    const exploration = await scenario({ scheduler, clock: this.#clock });
    this.#active = true;
    for (const [name, task] of Object.entries(exploration.tasks)) this.#start(name, task);
    while (await this.#step());
    this.#active = false;
    try {
      await exploration.check?.();
    } catch (cause) {
      throw this.#error(`the check fails: ${describe(cause)}`, cause);
    }
  }

  /** A task begins at a switch point, so that its start has its place in the order too. */
  #start(name: string, task: () => unknown): void {
    this.#unfinished.add(name);
    const body = async () => {
      await this.#park('start');
      await task();
    };
    this.#currentTask.run(name, body).then(
      () => this.#unfinished.delete(name),
      (cause: unknown) => {
        this.#failure ??= { problem: `task '${name}' throws ${describe(cause)}`, cause };
      },
    );
  }

  #park(label: string): Promise<void> {
    const task = this.#currentTask.getStore() ?? 'background';
    return new Promise((resume) => {
      this.#parked.push({ task, label, resume });
    });
  }

  /** Lets somebody go on. False when all is over. */
  async #step(): Promise<boolean> {
    await this.#settle();
    if (this.#failure !== undefined) throw this.#error(this.#failure.problem, this.#failure.cause);
    if (this.#parked.length > 0) {
      if (++this.#steps > this.#maxSteps) throw this.#error(`not finished after ${this.#maxSteps} choices`);
      this.#resumeOne();
      return true;
    }
    if (this.#unfinished.size === 0) return false;
    const wait = this.#clock.next();
    if (wait === undefined) throw this.#error(`deadlock: ${[...this.#unfinished].join(', ')} wait for ever`);
    if (++this.#steps > this.#maxSteps) throw this.#error(`not finished after ${this.#maxSteps} choices`);
    this.#trace.push(`the clock: ${wait} ms later`);
    await this.#clock.runNext();
    return true;
  }

  /** Waits until everybody stands at a switch point or waits for somebody else. */
  async #settle(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
      await nextTurn();
      if (this.#parked.length > 0 || this.#failure !== undefined || this.#unfinished.size === 0) return;
    }
  }

  #resumeOne(): void {
    const choices = this.#choices();
    const choice = choices.length === 1 ? 0 : this.#choose(choices.length);
    const next = choices[choice];
    if (next === undefined) throw this.#error(`no choice ${choice} among ${choices.length}`);
    if (next.task !== this.#lastTask && choices[0]?.task === this.#lastTask) this.#preemptions++;
    this.#parked.splice(this.#parked.indexOf(next), 1);
    this.#lastTask = next.task;
    this.#trace.push(`${next.task}: ${next.label}`);
    next.resume();
  }

  #choose(count: number): number {
    const choice = this.#guide.choose(count);
    if (choice === undefined)
      throw this.#error(`the scenario does not repeat itself: ${count} choices are not as many as before`);
    this.#schedule.push(choice);
    return choice;
  }

  /** Who may go on: who went on last comes first, and is alone when there were enough preemptions. */
  #choices(): Parked[] {
    const same = this.#parked.filter(({ task }) => task === this.#lastTask);
    if (same.length > 0 && this.#preemptions >= this.#maxPreemptions) return same;
    return [...same, ...this.#parked.filter(({ task }) => task !== this.#lastTask)];
  }

  #error(problem: string, cause?: unknown): ExplorationError {
    this.#active = false;
    return new ExplorationError(problem, this.#schedule, this.#trace, cause);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
