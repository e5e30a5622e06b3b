/**
 * A connection to a UNIX socket of QEMU's: what has come is kept until somebody looks for it.
 */

import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long a socket that QEMU makes is waited for, in milliseconds. */
const patience = 10_000;

/** Something did not come in time. */
export class TimedOut extends Error {
  override readonly name = 'TimedOut';
}

/** The host's end of a serial line, or of QEMU's monitor. */
export class Line {
  readonly #socket: Socket;
  #text = '';
  #ended = false;
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      this.#text += chunk;
      this.#wake?.();
    });
    socket.on('error', () => this.#end());
    socket.on('close', () => this.#end());
  }

  /**
   * Connects, as soon as the socket is there.
   *
   * @param path - of the socket
   * @throws TimedOut - nobody listens there
   */
  static async open(path: string): Promise<Line> {
    for (const until = Date.now() + patience; Date.now() < until; await sleep(20)) {
      const socket = await connected(path);
      if (socket) return new Line(socket);
    }
    throw new TimedOut(`nobody listens at ${path}`);
  }

  /** Sends text as it is. */
  send(text: string): void {
    this.#socket.write(text);
  }

  /**
   * Takes the text up to and with the first match of a pattern.
   *
   * @param pattern - what to wait for
   * @param timeoutMs - how long
   * @returns the match, and the text before it
   * @throws TimedOut - it did not come in time, or the other end is gone; with what came instead
   */
  async until(pattern: RegExp, timeoutMs: number): Promise<{ match: RegExpExecArray; before: string }> {
    for (const end = Date.now() + timeoutMs; ; ) {
      const match = pattern.exec(this.#text);
      if (match) {
        const before = this.#text.slice(0, match.index);
        this.#text = this.#text.slice(match.index + match[0].length);
        return { match, before };
      }
      const left = end - Date.now();
      if (this.#ended || left <= 0) {
        const what = this.#ended ? 'the other end is gone' : `nothing after ${timeoutMs / 1000} s`;
        throw new TimedOut(`${what} while waiting for ${pattern}; got ${JSON.stringify(this.#text.slice(-500))}`);
      }
      await this.#more(left);
    }
  }

  /** Closes the connection. */
  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** Resolves when something has come, or after some time. */
  #more(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }
}

/** A connected socket; undefined where nobody listens. */
function connected(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', () => resolve(undefined));
  });
}
