// A server of the reference test device, as a process of its own on one processor.

import { type ChildProcess, spawn } from 'node:child_process';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** How a server is started. */
export interface ServerCommand {
  readonly name: string;
  /** Program and words; the path of the socket is put behind them. */
  readonly words: readonly string[];
}

/** How long a server may take until it listens, in milliseconds. */
const patience = 20_000;

/** A running server. */
export class Server implements AsyncDisposable {
  readonly name: string;
  readonly socket: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(name: string, socket: string, child: ChildProcess, ended: Promise<void>) {
    this.name = name;
    this.socket = socket;
    this.#child = child;
    this.#ended = ended;
  }

  /**
   * Starts a server and waits until it listens.
   *
   * @param cpu - its processor
   * @param socket - path that it is to listen at
   * @throws Error - it ends before it listens, or takes too long; with what it said last
   */
  static async start({ name, words }: ServerCommand, cpu: number, socket: string): Promise<Server> {
    const child = spawn('taskset', ['-c', String(cpu), ...words, socket], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    let running = true;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-1000);
    });
    const ended = new Promise<void>((resolve) => {
      const end = () => {
        running = false;
        resolve();
      };
      child.on('error', (error) => {
        said += error.message;
        end();
      });
      child.on('close', end);
    });
    const server = new Server(name, socket, child, ended);
    for (const until = Date.now() + patience; running && Date.now() < until; await sleep(20)) {
      if (await listens(socket)) return server;
    }
    await server[Symbol.asyncDispose]();
    throw new Error(`${name} does not listen: ${said.trim() || words.join(' ')}`);
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGTERM');
    const late = setTimeout(() => this.#child.kill('SIGKILL'), patience);
    await this.#ended;
    clearTimeout(late);
  }
}

/** Whether somebody listens; the connection is given up at once, as a client's that leaves would be. */
function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
