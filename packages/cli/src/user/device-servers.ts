// Devices on sockets: any number of them in one process, on one thread.

import { Undo } from '@vfio/host';
import type { Machine } from '@vfio/machine';
import type { Linux } from '@vfio/sys';
import type { ServerContext, VfioUserServer } from '@vfio/user';
import { type Door, openDoor } from './door.js';
import { loadUser, type UserPackages } from './load.js';

/** How devices are served. */
export interface DeviceServersOptions {
  /** Milliseconds after a message in which the next one is asked for again and again. */
  readonly spinMs?: number;
}

/** The servers of a process. */
export class DeviceServers implements AsyncDisposable {
  readonly #packages: UserPackages;
  readonly #linux: Linux;
  readonly #context: ServerContext;
  readonly #servers = new Set<VfioUserServer>();

  private constructor(packages: UserPackages, linux: Linux, context: ServerContext) {
    this.#packages = packages;
    this.#linux = linux;
    this.#context = context;
  }

  /**
   * @param onBug - hears of what is no client's fault
   * @throws CommandError - what is needed is not installed, or not there on this system
   */
  static async start(onBug: (error: unknown) => void, options: DeviceServersOptions = {}): Promise<DeviceServers> {
    const packages = await loadUser();
    const linux = await packages.sys.Linux.load();
    const { spinMs } = options;
    const context = new packages.user.ServerContext(linux, onBug, spinMs === undefined ? {} : { spinMs });
    return new DeviceServers(packages, linux, context);
  }

  /**
   * Serves a device.
   *
   * @param address - of the device, which is VFIO's
   * @returns resolves when no client can come any more and the last one is gone; of a socket at a path never
   * @throws CommandError - the door can not be opened
   */
  open(machine: Machine, address: string, door: Door): { readonly over: Promise<void>; close(): Promise<void> } {
    const { listener, client } = openDoor(this.#packages, this.#linux, door);
    const server = new this.#packages.user.VfioUserServer(this.#context, listener, { host: machine.host, address });
    this.#servers.add(server);
    if (client) server.serve(client);
    return {
      over: client ? server.idle() : new Promise(() => undefined),
      close: async () => {
        await server.close();
        this.#servers.delete(server);
      },
    };
  }

  /** Closes all sockets and devices. */
  async [Symbol.asyncDispose](): Promise<void> {
    await using undo = new Undo();
    undo.add(() => this.#linux[Symbol.dispose]());
    undo.add(() => this.#context[Symbol.dispose]());
    for (const server of this.#servers) undo.add(() => server.close());
  }
}
