// The interpreter: one process of a script, from its first line to its end. It has the named things of the script, a process of
// the host to make its system calls, and the processes that it spawned.

import { type Clock, type ClockTimer, isSystemError, type Process } from '@vfio/host';
import { fromByteString } from './byte-string.js';
import type { CommandScope } from './command.js';
import { commands } from './commands/index.js';
import { type Deferred, deferred } from './deferred.js';
import { ScriptError, ScriptMistake } from './errors.js';
import { faultSignal, ScriptMemory } from './memory.js';
import { Names } from './names.js';
import { takeOptions } from './options.js';
import { attempt } from './outcome.js';
import type { CommandLine, LoopBlock, SpawnBlock, Statement } from './parse.js';
import type { Program } from './programs.js';
import type { TranscriptLine, TranscriptStep } from './transcript.js';
import { expandWord } from './words.js';

/** What the processes of one run share. */
export interface RunScope {
  readonly file: string;
  readonly clock: Clock;
  readonly programs: ReadonlyMap<string, Program>;
  readonly stepTimeoutMs: number;
  mapPath(path: string): string;
  /** Something happened: time must not move before everybody has seen it. */
  notify(): void;
  /** A mistake in the script, or a failure of the implementation, that the run ends with. */
  report(error: Error): void;
  /** Processes that have not ended. */
  readonly running: Set<ScriptProcess>;
}

/** A step that ended neither with an answer nor with an errno: whatever answers the script is broken. */
export class StepFailure extends Error {
  override readonly name = 'StepFailure';
  readonly file: string;
  readonly line: number;
  /** The line as written. */
  readonly source: string;

  constructor(file: string, line: number, source: string, cause: unknown) {
    super(`${file}:${line}: ${source}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.file = file;
    this.line = line;
    this.source = source;
  }
}

/** Exit statuses that the interpreter gives. */
const Status = { OK: 0, MISTAKE: 2, TIMEOUT: 3, SIGBUS: 128 + 7, SIGKILL: 128 + 9, SIGSEGV: 128 + 11 } as const;

/** Time between a fork and the first thing that the child does. */
const SPAWN_DELAY_MS = 1;

/** How long `wait` waits if the script does not say. */
const DEFAULT_WAIT_MS = 10_000;

const FOR_USAGE = 'for V in VALUES | for V = LO .. HI [step N]';

/** Ends the execution of a process from within. */
class ProcessEnd extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`exit ${status}`);
    this.status = status;
  }
}

interface Child {
  readonly parent: ScriptProcess;
  readonly body: ScriptProcess;
  /** Its transcript, until somebody waited for it. */
  log: TranscriptLine[];
  reaped: boolean;
}

/** Where a script process comes from. */
export interface ScriptProcessOptions {
  readonly process: Process;
  /** Absent for the first one. */
  readonly name?: string;
  readonly parent?: ScriptProcess;
  emit(line: TranscriptLine): void;
}

/** One process of a script. */
export class ScriptProcess implements CommandScope {
  readonly process: Process;
  readonly names: Names;
  readonly memory: ScriptMemory;
  readonly #run: RunScope;
  readonly #name: string | undefined;
  readonly #emit: (line: TranscriptLine) => void;
  readonly #children: Map<string, Child>;
  /** Variables of the loops it is in, the outermost first. */
  #loops: readonly { readonly name: string; readonly value: string }[];
  #steps = 0;
  #line = 0;
  #source = '';
  #alarm: ClockTimer | undefined;
  /** Runs out when a spawned process begins. */
  #start: ClockTimer | undefined;
  /** No line is carried out any more. */
  #over = false;
  #status: number | undefined;
  readonly #ended: Deferred<number> = deferred();

  constructor(run: RunScope, options: ScriptProcessOptions) {
    const { process, name, parent, emit } = options;
    this.#run = run;
    this.process = process;
    this.#name = name;
    this.#emit = emit;
    this.names = new Names(process.byteOrder, parent?.names);
    this.memory = new ScriptMemory(process, parent?.memory);
    this.#children = new Map(parent ? parent.#children : []);
    this.#loops = parent ? parent.#loops : [];
    run.running.add(this);
  }

  get clock(): Clock {
    return this.#run.clock;
  }

  get programs(): ReadonlyMap<string, Program> {
    return this.#run.programs;
  }

  /** Exit status; undefined as long as it has not ended. */
  get status(): number | undefined {
    return this.#status;
  }

  /** Resolves with the exit status. */
  get ended(): Promise<number> {
    return this.#ended.promise;
  }

  path(word: string): string {
    return this.#run.mapPath(fromByteString(word));
  }

  /** Carries out the script as its first process. */
  main(body: readonly Statement[]): void {
    void this.#execute(async () => {
      await this.#block(body);
      this.#emit({ end: true, steps: this.#steps });
    });
  }

  kill(name: string): boolean {
    const child = this.#child(name);
    if (child.reaped) return false;
    child.body.destroy();
    return true;
  }

  /** Ends it from outside, as SIGKILL does. */
  destroy(): void {
    if (this.#over) return;
    this.#finish(Status.SIGKILL, () => this.process.kill());
  }

  async #execute(body: () => Promise<void>): Promise<void> {
    try {
      await body();
      this.#exit(Status.OK);
    } catch (error) {
      // whatever comes after the end is an echo of the end
      if (!this.#over) this.#stopBy(error);
    }
  }

  #stopBy(error: unknown): void {
    const signal = faultSignal(error);
    if (error instanceof ProcessEnd) {
      this.#exit(error.status);
    } else if (error instanceof ScriptMistake) {
      const { file } = this.#run;
      // biome-ignore lint/suspicious/noControlCharactersInRegex: as the recording program writes its own messages
      this.#emit({ line: this.#line, fatal: error.message.replace(/["\\\0-\x1f]/g, "'") });
      this.#run.report(new ScriptError(file, this.#line, error.message, { cause: error }));
      this.#exit(Status.MISTAKE);
    } else if (signal) {
      this.#exit(Status[signal]);
    } else {
      this.#run.report(new StepFailure(this.#run.file, this.#line, this.#source, error));
      this.#finish(Status.SIGKILL, () => this.process.kill());
    }
  }

  #exit(status: number): void {
    if (!this.#over) this.#finish(status, () => this.process.exit(status));
  }

  #finish(status: number, leave: () => Promise<void>): void {
    const { file, stepTimeoutMs, report, running } = this.#run;
    this.#over = true;
    this.#alarm?.cancel();
    this.#start?.cancel();
    const fail = (error: unknown) => report(new StepFailure(file, this.#line, 'exit', error));
    // nobody waits for the first process: that it does not go away would not be noticed
    const overdue =
      this.#name === undefined ? this.clock.setTimer(stepTimeoutMs, () => fail('not done in time')) : undefined;
    void leave()
      .catch(fail)
      .finally(() => {
        overdue?.cancel();
        running.delete(this);
        this.#settle(status);
      });
  }

  /** It counts as ended. */
  #settle(status: number): void {
    this.#status ??= status;
    this.#ended.resolve(this.#status);
    this.#run.notify();
  }

  async #block(body: readonly Statement[]): Promise<void> {
    for (const statement of body) {
      this.#line = statement.line;
      this.#source = statement.source;
      const words = statement.words.map((word) => expandWord(word, (name) => this.names.variables.get(name)));
      if (statement.kind === 'for') await this.#loop(statement, words);
      else if (statement.kind === 'spawn') this.#spawn(statement, words);
      else await this.#command(statement, words);
    }
  }

  async #command(line: CommandLine, words: readonly string[]): Promise<void> {
    switch (words[0]) {
      case 'exit':
        throw new ProcessEnd(Status.OK);
      case 'set':
        this.names.variables.set(needWord(words, 1, 'set V TEXT'), needWord(words, 2, 'set V TEXT'));
        return;
      case 'default': {
        const name = needWord(words, 1, 'default V TEXT');
        const text = needWord(words, 2, 'default V TEXT');
        if (!this.names.variables.has(name)) this.names.variables.set(name, text);
        return;
      }
    }
    const { words: plain, options } = takeOptions(words, (text) => this.names.evaluate(text));
    const op = plain[0] ?? '';
    if (op === 'wait') {
      await this.#wait(line, plain);
      return;
    }
    const command = commands.get(op);
    if (!command) throw new ScriptMistake(`unknown command '${op}'`);
    if (plain.length < command.words) throw new ScriptMistake(`usage: ${command.usage}`);
    const step = this.#begin(op, line.source);
    await command.run({ words: plain, options, result: step, scope: this });
    this.#finishStep(step);
  }

  #begin(op: string, src: string): TranscriptStep {
    this.#armAlarm();
    this.#run.notify();
    this.#steps++;
    return {
      n: this.#steps,
      line: this.#line,
      ...(this.#name !== undefined && { proc: this.#name }),
      op,
      src,
      ...(this.#loops.length > 0 && { bind: Object.fromEntries(this.#loops.map(({ name, value }) => [name, value])) }),
    };
  }

  #finishStep(step: TranscriptStep): void {
    if (this.#over) throw new ProcessEnd(Status.OK);
    this.#emit(step);
    this.#run.notify();
  }

  /** The longest that a step may take begins anew with each of them. */
  #armAlarm(): void {
    this.#alarm?.cancel();
    this.#alarm = this.clock.setTimer(this.#run.stepTimeoutMs, () => {
      if (this.#over) return;
      this.#emit({ line: this.#line, ...(this.#name !== undefined && { proc: this.#name }), fatal: 'timeout' });
      this.#finish(Status.TIMEOUT, () => this.process.kill());
      // the run is over, even if the call that took too long does not let the process go
      if (this.#name === undefined) this.#settle(Status.TIMEOUT);
    });
  }

  async #loop(statement: LoopBlock, words: readonly string[]): Promise<void> {
    const outer = this.#loops;
    const name = needWord(words, 1, FOR_USAGE);
    for (const value of this.#loopValues(words)) {
      this.#loops = [...outer, { name, value }];
      this.names.variables.set(name, value);
      await this.#block(statement.body);
    }
    this.#loops = outer;
  }

  #loopValues(words: readonly string[]): Iterable<string> {
    const first = needWord(words, 3, FOR_USAGE);
    if (words[2] === 'in') return words.slice(3);
    const low = this.names.evaluate(first);
    const high = this.names.evaluate(needWord(words, 5, FOR_USAGE));
    const step = words[7] === undefined ? 1n : this.names.evaluate(words[7]);
    if (step === 0n) throw new ScriptMistake('a loop with step 0 has no end');
    return numbers(low, high, step);
  }

  #spawn(statement: SpawnBlock, words: readonly string[]): void {
    const name = needWord(words, 1, 'spawn NAME [fresh]');
    this.#finishStep(this.#begin('spawn', statement.source));
    const log: TranscriptLine[] = [];
    const body = new ScriptProcess(this.#run, {
      process: this.#fork(name),
      name,
      parent: this,
      emit: (line) => log.push(line),
    });
    this.#children.set(name, { parent: this, body, log, reaped: false });
    body.#start = this.clock.setTimer(SPAWN_DELAY_MS, () => {
      void body.#execute(() => body.#childMain(statement, words[2] === 'fresh'));
    });
  }

  #fork(name: string): Process {
    try {
      return this.process.fork(name);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw new ScriptMistake(`fork: ${error.code}`);
    }
  }

  async #childMain(statement: SpawnBlock, fresh: boolean): Promise<void> {
    if (fresh) await this.#dropInherited();
    this.#armAlarm();
    await this.#block(statement.body);
  }

  /** Gives up whatever has a name, so that the child keeps nothing alive. */
  async #dropInherited(): Promise<void> {
    for (const descriptor of this.names.descriptors.values()) await attempt(() => this.process.close(descriptor));
    for (const { address, length } of this.names.areas.values()) {
      if (length > 0n) await attempt(() => this.process.munmap(address, length));
    }
  }

  async #wait(line: CommandLine, words: readonly string[]): Promise<void> {
    const child = this.#child(needWord(words, 1, 'wait NAME [TIMEOUT_MS]'));
    if (child.parent !== this) throw new ScriptMistake('waitpid: No child processes');
    const timeout = words[2] === undefined ? DEFAULT_WAIT_MS : Number(BigInt.asIntN(32, this.names.evaluate(words[2])));
    const step = this.#begin('wait', line.source);
    if (child.body.status === undefined && timeout > 0) await this.#endOf(child.body, timeout);
    const { status } = child.body;
    step.exited = status !== undefined;
    if (status !== undefined) step.status = status;
    this.#finishStep(step);
    if (status === undefined) return;
    child.reaped = true;
    for (const entry of child.log.splice(0)) this.#emit(entry);
  }

  async #endOf(body: ScriptProcess, timeoutMs: number): Promise<void> {
    const timedOut = deferred<void>();
    const timer = this.clock.setTimer(timeoutMs, () => timedOut.resolve());
    await Promise.race([body.ended, timedOut.promise]);
    timer.cancel();
  }

  #child(name: string): Child {
    const child = this.#children.get(name);
    if (!child) throw new ScriptMistake(`unknown process '${name}'`);
    return child;
  }
}

function needWord(words: readonly string[], index: number, usage: string): string {
  const word = words[index];
  if (word === undefined) throw new ScriptMistake(`usage: ${usage}`);
  return word;
}

function* numbers(low: bigint, high: bigint, step: bigint): Generator<string> {
  for (let value = low; value <= high; value += step) yield `0x${value.toString(16)}`;
}
