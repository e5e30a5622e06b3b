import { closeSync, openSync, writeSync } from 'node:fs';
import { untilAborted } from '../abort.js';
import { type Command, type Invocation, type Options, textOption, type View } from '../command.js';
import { Exit, UsageError } from '../errors.js';
import type { Terminal } from '../output/terminal.js';
import { anything, flag, object, optional, text } from '../shape.js';
import { type TracedCall, Tracer, whose } from '../trace/tracer.js';

/** What `trace` tells: a call that is over, or what the command that it traces tells. */
export type TraceEvent = { readonly call: TracedCall } | { readonly inner: unknown };

/** What became of the traced command. */
interface TraceResult {
  readonly calls: number;
  readonly failed: number;
  readonly inner?: unknown;
}

const shape = object({
  all: flag,
  inner: optional(object({ command: text(64), args: anything })),
});

/**
 * `vfio trace`
 *
 * @param commands - those that it can trace
 * @param parseInner - what a command line of them means
 */
export function traceCommand(
  commands: readonly Command[],
  parseInner: (words: readonly string[]) => Invocation,
): Command {
  const command: Command = {
    name: 'trace',
    words: ['trace'],
    summary: 'show system calls on VFIO files as they happen, decoded',
    examples: [
      ['vfio trace', 'of all processes of the running machine, until ^C'],
      ['vfio trace -- exercise vfio0', 'while a command runs; its own output goes to standard error'],
      ['vfio trace transcripts/scripts/mtty-irq.vfs', 'of a script, on a machine of its own'],
      ['vfio trace -o calls.txt -- exercise', 'to a file'],
    ],
    configure: (commander) => {
      commander
        .argument('[command...]', 'a script, or a command of vfio with its arguments')
        .option('-a, --all', 'calls on all files, not only on those of VFIO')
        .option('-o, --output <file>', 'write the trace there instead of standard output')
        .option('--json', 'one line of JSON for each call')
        .passThroughOptions();
    },

    async run({ machine, signal, emit }, given): Promise<TraceResult> {
      const { all, inner } = shape(given, 'args');
      let calls = 0;
      let failed = 0;
      using _tracer = new Tracer(
        machine.host,
        (call) => {
          calls++;
          if (call.failed) failed++;
          emit({ call });
        },
        { all },
      );
      if (!inner) {
        await untilAborted(signal);
        return { calls, failed };
      }
      const traced = commands.find(({ name }) => name === inner.command);
      if (!traced) throw new UsageError(`'${inner.command}' can not be traced`);
      const result = await traced.run({ machine, signal, emit: (event) => emit({ inner: event }) }, inner.args);
      return { calls, failed, inner: result };
    },

    invoke(operands, options) {
      const inner = operands.length > 0 ? parseInner(operands) : undefined;
      return {
        command,
        args: {
          all: options.all === true,
          ...(inner ? { inner: { command: inner.command.name, args: inner.args } } : {}),
        },
        view: (terminal) => traceView(terminal, options, inner),
      };
    },
  };
  return command;
}

function traceView(terminal: Terminal, options: Options, inner: Invocation | undefined): View<unknown, unknown> {
  const innerView = inner?.view(terminal.onStandardError());
  const writer = new TraceWriter(terminal, options);
  return {
    event: (event) => {
      const told = event as TraceEvent;
      if ('call' in told) writer.write(told.call);
      else innerView?.event(told.inner);
    },
    result: (result) => {
      const { calls, failed, inner: innerResult } = result as TraceResult;
      writer[Symbol.dispose]();
      const code = innerView?.result(innerResult) ?? Exit.OK;
      terminal.note(`${calls} calls, ${failed} failed`);
      return code;
    },
  };
}

/** Writes calls to standard output, or to the file that was asked for. */
export class TraceWriter implements Disposable {
  readonly #terminal: Terminal;
  readonly #json: boolean;
  readonly #file: number | undefined;
  /** The process of the line before. */
  #last = '';

  constructor(terminal: Terminal, options: Options) {
    const output = textOption(options, 'output');
    this.#terminal = terminal;
    this.#json = options.json === true;
    this.#file = output === undefined ? undefined : openSync(output, 'w');
  }

  write(call: TracedCall): void {
    if (this.#file !== undefined) {
      writeSync(this.#file, `${this.#json ? JSON.stringify(call) : this.#text(call, (text) => text)}\n`);
    } else if (this.#json) this.#terminal.jsonLine(call);
    else this.#terminal.print(this.#text(call, this.#terminal.colours.red));
  }

  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file);
  }

  #text(call: TracedCall, alarm: (text: string) => string): string {
    const owner = whose(call);
    const changed = owner !== this.#last;
    this.#last = owner;
    const result = call.failed ? alarm(call.result) : call.result;
    return `${changed ? `${owner}\n` : ''}  ${call.call} = ${result}`;
  }
}
