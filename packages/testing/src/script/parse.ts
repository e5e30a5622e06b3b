// A script as a tree: commands, loops and spawned processes. What can be wrong with a script before it runs is found here.

import { toByteString } from './byte-string.js';
import { located, ScriptError } from './errors.js';
import { parseHeader, type ScriptHeader } from './header.js';
import { type LogicalLine, literalWord, logicalLines, splitWords, type Word } from './words.js';

/** What every line of a script has. */
export interface Line {
  readonly line: number;
  /** The line as written, continued lines joined. */
  readonly source: string;
  /** Command first. */
  readonly words: readonly Word[];
}

/** A line that does one thing. */
export interface CommandLine extends Line {
  readonly kind: 'command';
}

/** `for ... end` */
export interface LoopBlock extends Line {
  readonly kind: 'for';
  readonly body: readonly Statement[];
}

/** `spawn ... end` */
export interface SpawnBlock extends Line {
  readonly kind: 'spawn';
  readonly body: readonly Statement[];
}

/** One element of a script's tree. */
export type Statement = CommandLine | LoopBlock | SpawnBlock;

/** A script that has been read. */
export interface Script {
  /** Name for messages and reports. */
  readonly file: string;
  readonly header: ScriptHeader;
  readonly body: readonly Statement[];
}

/**
 * Reads a script.
 *
 * @param text - the whole file
 * @param file - its name, for messages
 * @throws ScriptError - a quote, a brace or a block is not closed, `end` stands alone, or a line is continued into nothing
 */
export function parseScript(text: string, file: string): Script {
  const lines = logicalLines(toByteString(text), file);
  const reader = new BlockReader(lines, file);
  return { file, header: parseHeader(text), body: reader.readBlock(undefined) };
}

class BlockReader {
  readonly #lines: readonly LogicalLine[];
  readonly #file: string;
  #at = 0;

  constructor(lines: readonly LogicalLine[], file: string) {
    this.#lines = lines;
    this.#file = file;
  }

  readBlock(opener: Line | undefined): Statement[] {
    const statements: Statement[] = [];
    for (;;) {
      const logical = this.#lines[this.#at++];
      if (!logical) {
        if (!opener) return statements;
        throw new ScriptError(this.#file, opener.line, `missing end of '${opener.source}'`);
      }
      const line = this.#split(logical);
      const first = literalWord(line.words[0]);
      if (first === 'end') {
        if (opener) return statements;
        throw new ScriptError(this.#file, line.line, 'end without for or spawn');
      }
      if (first === 'for' || first === 'spawn') {
        statements.push({ kind: first, ...line, body: this.readBlock(line) });
      } else if (line.words.length > 0) {
        statements.push({ kind: 'command', ...line });
      }
    }
  }

  #split(logical: LogicalLine): Line {
    try {
      return { line: logical.line, source: logical.text, words: splitWords(logical.text) };
    } catch (error) {
      throw located(error, this.#file, logical.line);
    }
  }
}
