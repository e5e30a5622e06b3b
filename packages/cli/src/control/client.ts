// The other end of the control socket: calls that a command line makes on a machine that is up.

import { createConnection, type Socket } from 'node:net';
import { CommandError, InterruptedError } from '../errors.js';
import { LineSplitter } from './lines.js';
import { type Hello, longestReply, parseHello, parseReply, protocolVersion, type Request } from './protocol.js';

/** A failure that happened in the process of the machine. */
export class RemoteError extends CommandError {
  override readonly name = 'RemoteError';
  override readonly exitCode: number;

  constructor(failure: { readonly message: string; readonly exitCode: number; readonly stack?: string }) {
    super(failure.message);
    this.exitCode = failure.exitCode;
    if (failure.stack !== undefined) this.stack = `in the machine: ${failure.stack}`;
  }
}

interface Call {
  event(event: unknown): void;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/** How long a server may take to say who it is. */
const helloMs = 5000;

/** A connection to a machine that is up. */
export class ControlClient {
  readonly hello: Hello;
  readonly #socket: Socket;
  readonly #calls = new Map<number, Call>();
  #next = 1;

  /** Called by {@link connect}. */
  constructor(socket: Socket, hello: Hello, lines: LineSplitter) {
    this.#socket = socket;
    this.hello = hello;
    socket.on('data', (bytes) => {
      try {
        for (const line of lines.push(bytes)) this.#receive(line);
      } catch (error) {
        this.#fail(error);
        socket.destroy();
      }
    });
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new CommandError(`${hello.machine} went down before it answered`)));
  }

  /**
   * Has a command carried out.
   *
   * @param event - called for what it tells on the way
   * @param signal - when aborted, the machine is asked to stop; what it answers then counts
   * @returns its result
   * @throws RemoteError - it failed there
   */
  call(command: string, args: unknown, event: (event: unknown) => void, signal?: AbortSignal): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const cancel = () => this.#send({ cancel: id });
      const done = () => signal?.removeEventListener('abort', cancel);
      this.#calls.set(id, {
        event,
        resolve: (result) => {
          done();
          resolve(result);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      });
      if (signal?.aborted) {
        this.#calls.delete(id);
        reject(new InterruptedError());
        return;
      }
      signal?.addEventListener('abort', cancel);
      this.#send({ id, command, args });
    });
  }

  /** Closes the connection; what the machine does for it stops. */
  close(): void {
    this.#socket.destroy();
  }

  #send(request: Request): void {
    this.#socket.write(`${JSON.stringify(request)}\n`);
  }

  #receive(line: string): void {
    const reply = parseReply(line);
    const call = this.#calls.get(reply.id);
    if ('error' in reply) {
      const error = new RemoteError(reply.error);
      // number 0 is no call: the machine did not understand us
      if (reply.id === 0) this.#fail(error);
      this.#calls.delete(reply.id);
      call?.reject(error);
    } else if ('event' in reply) call?.event(reply.event);
    else {
      this.#calls.delete(reply.id);
      call?.resolve(reply.result);
    }
  }

  #fail(error: unknown): void {
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }
}

/**
 * Connects to a machine.
 *
 * @returns undefined if nobody listens there
 * @throws CommandError - whoever listens is no machine, or one of another version
 */
export async function connect(path: string): Promise<ControlClient | undefined> {
  const socket = await open(path);
  if (!socket) return undefined;
  const lines = new LineSplitter(longestReply);
  try {
    const hello = parseHello(await firstLine(socket, lines));
    if (hello.vfio !== protocolVersion) {
      throw new CommandError(
        `${path} speaks version ${hello.vfio} of the protocol, not ${protocolVersion}: use the vfio that brought it up`,
      );
    }
    return new ControlClient(socket, hello, lines);
  } catch (error) {
    socket.destroy();
    if (error instanceof CommandError) throw error;
    throw new CommandError(`${path} is no machine's: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
}

function open(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error) => {
      const nobody = 'code' in error && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT');
      if (nobody) resolve(undefined);
      else reject(error);
    });
  });
}

function firstLine(socket: Socket, lines: LineSplitter): Promise<string> {
  return new Promise((resolve, reject) => {
    const give = (settle: () => void) => {
      clearTimeout(timer);
      socket.off('data', take);
      socket.off('error', refuse);
      socket.off('close', gone);
      settle();
    };
    const refuse = (error: Error) => give(() => reject(error));
    const gone = () => refuse(new Error('it closed the connection'));
    const take = (bytes: Buffer) => {
      try {
        const [line] = lines.push(bytes);
        if (line !== undefined) give(() => resolve(line));
      } catch (error) {
        refuse(error instanceof Error ? error : new Error(String(error)));
      }
    };
    const timer = setTimeout(() => refuse(new Error('it does not say who it is')), helloMs);
    socket.on('data', take);
    socket.on('error', refuse);
    socket.on('close', gone);
  });
}
