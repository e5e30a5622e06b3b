/**
 * What a guest was asked and what it said, for people to read and for later runs to be compared with.
 */

/** One question to the guest, and what came of it. */
export interface Entry {
  /** The device that it is about. */
  readonly device: string;
  /** What holds if it went well. */
  readonly what: string;
  /** What was run; lines that begin with `#` are done by the host. */
  readonly command: string;
  readonly output: string;
  /** What was expected and did not come. */
  readonly missing: readonly string[];
}

/** All questions of a run, in order. */
export class Transcript {
  readonly #title: string;
  readonly #entries: Entry[] = [];

  constructor(title: string) {
    this.#title = title;
  }

  /** Adds an answered question. */
  add(entry: Entry): void {
    this.#entries.push(entry);
  }

  /** How many there are. */
  get steps(): number {
    return this.#entries.length;
  }

  /** Those that did not go well. */
  get failures(): readonly Entry[] {
    return this.#entries.filter(({ missing }) => missing.length > 0);
  }

  /** The whole as text. */
  toString(): string {
    let device = '';
    const parts = [`# ${this.#title}\n`];
    for (const entry of this.#entries) {
      if (entry.device !== device) parts.push(`\n## ${entry.device}\n`);
      device = entry.device;
      parts.push(`\n${entry.missing.length === 0 ? 'ok' : 'FAILED'}: ${entry.what}\n`, `$ ${entry.command}\n`);
      parts.push(entry.output.trimEnd().replace(/^(?=.)/gm, '  '), entry.output.trim() === '' ? '' : '\n');
      for (const missing of entry.missing) parts.push(`missing: ${missing}\n`);
    }
    return parts.join('');
  }
}
