/**
 * Devices that `vfio serve` puts on sockets, each in a process of its own, for as long as a guest needs them.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Line } from './line.js';
import { ProgramFailed } from './process.js';

/** The command, built; from `dist`. */
const cli = fileURLToPath(new URL('../../../packages/cli/dist/bin.js', import.meta.url));

/** A device on a socket. */
export class Served implements AsyncDisposable {
  /** Its name, as `vfio serve` knows it. */
  readonly name: string;
  readonly socket: string;
  /** A line of the shell that writes its screen to the file named behind it. */
  readonly screenshot: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  private constructor(name: string, socket: string, child: ChildProcess) {
    this.name = name;
    this.socket = socket;
    this.screenshot = [process.execPath, cli, 'screenshot', name].join(' ');
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.on('error', resolve);
      child.on('close', resolve);
    });
  }

  /**
   * Has a device served.
   *
   * @param name - `mtty`, or another that `vfio serve` knows
   * @param work - directory for its socket and for what it says
   * @throws ProgramFailed - it does not come up
   */
  static async start(name: string, work: string): Promise<Served> {
    const socket = join(work, `${name}.sock`);
    const words = [cli, 'serve', name, '--socket-path', socket];
    const child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.pipe(createWriteStream(join(work, `${name}.log`)));
    child.stderr?.on('data', (chunk: Buffer) => {
      said = `${said}${chunk}`.slice(-1000);
    });
    const served = new Served(name, socket, child);
    try {
      const gone = served.#ended.then(() => {
        throw new ProgramFailed('it has ended');
      });
      // a client that says nothing and leaves, as any server has to bear
      (await Promise.race([Line.open(socket), gone]))[Symbol.dispose]();
      return served;
    } catch (error) {
      await served[Symbol.asyncDispose]();
      throw new ProgramFailed(`vfio serve ${name} does not come up: ${said.trim()}`, { cause: error });
    }
  }

  /** Ends it as a service is ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#ended;
  }
}
