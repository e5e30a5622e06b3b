// Where a command writes: what was asked for on standard output, what is said about it on standard error.

import { clearLine, cursorTo } from 'node:readline';
import type { Writable } from 'node:stream';
import pc from 'picocolors';

/** Colours, or none where nobody sees them. */
export type Colours = ReturnType<typeof pc.createColors>;

/** A stream of the process, or one that a test reads. */
export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number };

/** What a terminal is made of. */
export interface TerminalOptions {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Milliseconds after which a person wants to know what takes so long. */
const patienceMs = 1000;
const redrawMs = 250;

/** Something that takes its time. Shown on a terminal after a second, until disposed of. */
export interface Progress extends Disposable {
  /** What is being done now. */
  update(text: string): void;
}

/** Standard output and standard error. */
export class Terminal implements Disposable {
  readonly colours: Colours;
  readonly #stdout: OutputStream;
  readonly #stderr: OutputStream;
  readonly #env: TerminalOptions['env'];
  #shown: ShownProgress | undefined;

  constructor({ stdout, stderr, env }: TerminalOptions) {
    this.#env = env;
    this.#stdout = stdout;
    this.#stderr = stderr;
    const wanted = env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== '0';
    const unwanted = Boolean(env.NO_COLOR) || env.TERM === 'dumb';
    this.colours = pc.createColors(wanted || (stdout.isTTY === true && !unwanted));
  }

  /** Writes a line to standard output. */
  print(line: string): void {
    this.write(`${line}\n`);
  }

  /** Writes text as it is to standard output. */
  write(text: string): void {
    this.#shown?.hide();
    this.#stdout.write(text);
  }

  /** Writes a value as JSON, indented for people. */
  json(value: unknown): void {
    this.print(JSON.stringify(value, undefined, 2));
  }

  /** Writes a value as one line of JSON. */
  jsonLine(value: unknown): void {
    this.print(JSON.stringify(value));
  }

  /** Writes a line to standard error. */
  note(line: string): void {
    this.#shown?.hide();
    this.#stderr.write(`${line}\n`);
  }

  /** A terminal whose standard output is this one's standard error. */
  onStandardError(): Terminal {
    return new Terminal({ stdout: this.#stderr, stderr: this.#stderr, env: this.#env });
  }

  /** Takes away what is shown of a progress. */
  [Symbol.dispose](): void {
    this.#shown?.[Symbol.dispose]();
  }

  /** Says what is being done, if it takes longer than a second and somebody looks. */
  progress(text: string): Progress {
    if (this.#stderr.isTTY !== true) return { update: () => undefined, [Symbol.dispose]: () => undefined };
    const shown = new ShownProgress(this.#stderr, text, () => {
      if (this.#shown === shown) this.#shown = undefined;
    });
    this.#shown?.[Symbol.dispose]();
    this.#shown = shown;
    return shown;
  }
}

class ShownProgress implements Progress {
  readonly #stream: OutputStream;
  readonly #start = Date.now();
  readonly #timer: NodeJS.Timeout;
  readonly #done: () => void;
  #text: string;
  #visible = false;

  constructor(stream: OutputStream, text: string, done: () => void) {
    this.#stream = stream;
    this.#text = text;
    this.#done = done;
    this.#timer = setInterval(() => this.#draw(), redrawMs);
    this.#timer.unref();
  }

  update(text: string): void {
    this.#text = text;
  }

  /** Makes room for a line; drawn again with the next tick. */
  hide(): void {
    if (!this.#visible) return;
    this.#visible = false;
    cursorTo(this.#stream, 0);
    clearLine(this.#stream, 0);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.hide();
    this.#done();
  }

  #draw(): void {
    const passed = Date.now() - this.#start;
    if (passed < patienceMs) return;
    this.hide();
    const width = this.#stream.columns ?? 80;
    this.#stream.write(`${this.#text}, ${Math.floor(passed / 1000)} s`.slice(0, width - 1));
    this.#visible = true;
  }
}
