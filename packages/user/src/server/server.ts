// A server: one device on one socket, for one client after the other.

import type { Host } from '@vfio/host';
import {
  EventCalls,
  type Linux,
  PollEvent,
  Reactor,
  type ReactorOptions,
  Transfer,
  type UnixListener,
  type UnixSocket,
  type Watcher,
} from '@vfio/sys';
import type { Capabilities } from '../wire/capabilities.js';
import { Client } from './client.js';
import { serverCapabilities } from './limits.js';
import type { ServedDevice } from './session.js';

/** What servers of one thread share. */
export class ServerContext implements Disposable {
  readonly linux: Linux;
  readonly reactor: Reactor;
  readonly transfer: Transfer;
  readonly events: EventCalls;

  /** @param onBug - hears of what goes wrong in this process and is no client's fault */
  constructor(linux: Linux, onBug: (error: unknown) => void, options: ReactorOptions = {}) {
    this.linux = linux;
    this.reactor = new Reactor(linux, onBug, options);
    this.transfer = new Transfer(linux);
    this.events = new EventCalls(linux);
  }

  /** Ends it, when no server is there any more. */
  [Symbol.dispose](): void {
    this.reactor[Symbol.dispose]();
    this.transfer[Symbol.dispose]();
    this.events[Symbol.dispose]();
  }
}

/** How a device is served. */
export interface ServeOptions {
  /** What the server says of itself where it is not the usual. */
  readonly capabilities?: Partial<Capabilities>;
}

/** A device on a socket. */
export class VfioUserServer implements AsyncDisposable {
  readonly device: ServedDevice;
  readonly #context: ServerContext;
  readonly #listener: UnixListener;
  readonly #watcher: Watcher;
  readonly #capabilities: Capabilities;
  #client: Client | undefined;
  #closing: Promise<void> | undefined;
  #idle: (() => void)[] = [];

  /**
   * @param listener - becomes the server's; `listenUnix` makes one, `adoptListener` takes one over
   */
  constructor(context: ServerContext, listener: UnixListener, device: ServedDevice, options: ServeOptions = {}) {
    this.#context = context;
    this.#listener = listener;
    this.device = device;
    this.#capabilities = serverCapabilities(options.capabilities ?? {});
    this.#watcher = context.reactor.watch(listener.number, PollEvent.IN, () => this.#accept());
  }

  /** Whether a client is connected. */
  get isBusy(): boolean {
    return this.#client !== undefined;
  }

  /** Resolves when no client is connected, and the device is closed. */
  async idle(): Promise<void> {
    if (this.#client === undefined) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Serves a client that is connected already, in the place of one who would come through the socket. */
  serve(socket: UnixSocket): void {
    const { host } = this.device;
    this.#watcher.await(0);
    const client = new Client(this.#context, socket, this.device, this.#capabilities, (error) => report(host, error));
    this.#client = client;
    void client.ended.then(() => this.#ended());
  }

  /** Sends the client away, closes the device and the socket. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    this.#watcher.stop();
    this.#listener.close();
    this.#client?.close();
    await this.#client?.ended;
  }

  /** One client at a time: the next one waits in the line of the socket until the device is closed. */
  #accept(): void {
    if (this.#client !== undefined) return;
    const socket = this.#listener.accept();
    if (socket !== undefined) this.serve(socket);
  }

  #ended(): void {
    this.#client = undefined;
    for (const resolve of this.#idle.splice(0)) resolve();
    if (this.#listener.isOpen) this.#watcher.await(PollEvent.IN);
  }
}

/** What goes wrong in a device is told in the log of its host. */
function report(host: Host, error: unknown): void {
  host.log.err(`vfio-user: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
}
