// The control socket of `vfio up`. Whatever a client sends, or leaves unread, ends at worst its own connection.

import { once } from 'node:events';
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Machine } from '@vfio/machine';
import type { Command } from '../command.js';
import { CommandError, failureOf, InterruptedError } from '../errors.js';
import { connect } from './client.js';
import { LineSplitter } from './lines.js';
import {
  type DownResult,
  downCommand,
  type Hello,
  longestRequest,
  parseRequest,
  protocolVersion,
  type Reply,
} from './protocol.js';

/** What a server serves. */
export interface ServerOptions {
  readonly machine: Machine;
  readonly commands: readonly Command[];
  /** Ends the machine; called by `down`. */
  stop(): Promise<DownResult>;
  /** Says what happened, to whoever runs the server. */
  note?(line: string): void;
}

const mostConnections = 64;
/** Commands of one client that run at once. */
const mostCalls = 16;
/** Bytes that a client may leave unread before it is cut off. */
const mostUnread = 1 << 24;
/** How long a client may take to read its last answers. */
const partingMs = 1000;

/** A control socket that listens. */
export class ControlServer implements AsyncDisposable {
  readonly path: string;
  readonly #server: Server;
  readonly #options: ServerOptions;
  readonly #connections = new Set<Connection>();

  private constructor(path: string, server: Server, options: ServerOptions) {
    this.path = path;
    this.#server = server;
    this.#options = options;
    server.maxConnections = mostConnections;
    server.on('connection', (socket) => this.#accept(socket));
    // a client that can not be accepted, for want of descriptors, has to come again
    server.on('error', (error) => options.note?.(`control socket: ${error.message}`));
  }

  /**
   * Listens on a socket that nobody else may use. One that is left of a machine that is gone is replaced.
   *
   * @throws CommandError - a machine is up there, or the path is something else
   */
  static async listen(path: string, options: ServerOptions): Promise<ControlServer> {
    await clearStale(path);
    const server = createServer();
    await bind(server, path);
    return new ControlServer(path, server, options);
  }

  /** Stops what clients asked for; they get what it ends with. */
  interrupt(): void {
    for (const connection of this.#connections) connection.interrupt();
  }

  /** Closes all connections, each when its last answer is written, and removes the socket. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    await Promise.all([...this.#connections].map((connection) => connection.end()));
    await closed;
  }

  #accept(socket: Socket): void {
    const connection = new Connection(socket, this.#options);
    this.#connections.add(connection);
    socket.on('close', () => this.#connections.delete(connection));
  }
}

/** One client. */
class Connection {
  readonly #socket: Socket;
  readonly #options: ServerOptions;
  readonly #calls = new Map<number, AbortController>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #lines = new LineSplitter(longestRequest);

  constructor(socket: Socket, options: ServerOptions) {
    this.#socket = socket;
    this.#options = options;
    const hello: Hello = { vfio: protocolVersion, machine: options.machine.name, pid: process.pid };
    this.#write(hello);
    socket.on('data', (bytes) => this.#receive(bytes));
    // what went wrong with a client is of no interest; what it asked for is stopped
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.interrupt());
  }

  /** Stops what the client asked for, and closes when everything is written; a client that does not read is not waited for. */
  async end(): Promise<void> {
    this.interrupt();
    setTimeout(() => this.#socket.destroy(), partingMs).unref();
    await Promise.race([Promise.all(this.#underWay), once(this.#socket, 'close')]);
    this.#socket.destroySoon();
  }

  interrupt(): void {
    for (const call of this.#calls.values()) call.abort(new InterruptedError());
  }

  #receive(bytes: Buffer): void {
    try {
      for (const line of this.#lines.push(bytes)) this.#obey(line);
    } catch (error) {
      // a client that does not keep to the protocol is told why, and is not heard any more
      this.#reply({ id: 0, error: failureOf(error) });
      this.#socket.destroySoon();
    }
  }

  #obey(line: string): void {
    const request = parseRequest(line);
    if ('cancel' in request) {
      this.#calls.get(request.cancel)?.abort(new InterruptedError());
      return;
    }
    const { id, command, args } = request;
    if (this.#calls.has(id)) throw new CommandError(`call ${id} is not over yet`);
    if (this.#calls.size >= mostCalls) throw new CommandError(`${mostCalls} calls at once are the most`);
    const abort = new AbortController();
    this.#calls.set(id, abort);
    const call = this.#call(id, command, args, abort.signal).then(
      (result) => this.#finish({ id, result: result ?? null }),
      (error: unknown) => this.#finish({ id, error: failureOf(error) }),
    );
    this.#underWay.add(call);
    void call.finally(() => this.#underWay.delete(call));
  }

  async #call(id: number, name: string, args: unknown, signal: AbortSignal): Promise<unknown> {
    if (name === downCommand) return this.#options.stop();
    const command = this.#options.commands.find((one) => one.name === name);
    if (!command) throw new CommandError(`this machine does not know the command '${name}'`);
    const { machine } = this.#options;
    return command.run({ machine, signal, emit: (event) => this.#reply({ id, event }) }, args);
  }

  #finish(reply: Reply): void {
    this.#calls.delete(reply.id);
    this.#reply(reply);
  }

  #reply(reply: Reply): void {
    this.#write(reply);
  }

  #write(value: object): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    if (this.#socket.writableLength > mostUnread) {
      this.#options.note?.('a client does not read what it asked for: its connection is closed');
      this.#socket.destroy();
      return;
    }
    this.#socket.write(`${JSON.stringify(value)}\n`);
  }
}

/** Removes a socket that nobody listens on. */
async function clearStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw new CommandError(`${path} is there and is no socket: give another path with --control`);
  const other = await connect(path);
  if (other) {
    const { machine, pid } = other.hello;
    other.close();
    throw new CommandError(`${machine} is up already (process ${pid}, ${path}): vfio down it, or give another --name`);
  }
  unlinkSync(path);
}

/** Binds so that the socket never has another mode than 0600. */
function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', (error) => {
      const taken = 'code' in error && error.code === 'EADDRINUSE';
      reject(taken ? new CommandError(`${path} was taken by another machine just now: try again`) : error);
    });
    const umask = process.umask(0o177);
    try {
      // the system calls are made before this returns
      server.listen(path, () => {
        chmodSync(path, 0o600);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}
