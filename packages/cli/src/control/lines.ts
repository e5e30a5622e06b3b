// Lines out of a stream of bytes, none longer than allowed: the other end may be anybody.

/** A line was longer than allowed; nothing after it can be trusted. */
export class LineTooLongError extends Error {
  override readonly name = 'LineTooLongError';
}

const lineFeed = 0x0a;

/** Cuts bytes into lines. */
export class LineSplitter {
  readonly #longest: number;
  #parts: Buffer[] = [];
  #length = 0;

  /** @param longest - bytes of a line, without its end */
  constructor(longest: number) {
    this.#longest = longest;
  }

  /**
   * Takes the next bytes.
   *
   * @returns the lines that are complete with them, without their ends
   * @throws LineTooLongError
   */
  push(bytes: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = bytes.indexOf(lineFeed); end >= 0; end = bytes.indexOf(lineFeed, start)) {
      this.#add(bytes.subarray(start, end));
      lines.push(Buffer.concat(this.#parts).toString('utf8'));
      this.#parts = [];
      this.#length = 0;
      start = end + 1;
    }
    this.#add(bytes.subarray(start));
    return lines;
  }

  #add(part: Buffer): void {
    this.#length += part.length;
    if (this.#length > this.#longest) throw new LineTooLongError(`a line is longer than ${this.#longest} bytes`);
    if (part.length > 0) this.#parts.push(part);
  }
}
