/* A machine with a serial card, served on a socket, and raw clients of it. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VirtualClock } from '@vfio/host';
import { Machine, type MachineFile } from '@vfio/machine';
import { driverPackage } from '@vfio/mdev-samples/machine';
import { Linux, listenUnix } from '@vfio/sys';
import { type ServeOptions, ServerContext, VfioUserServer } from '../src/index.js';
import { RawClient, turn } from './raw-client.js';

export const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

const card: MachineFile = {
  version: 1,
  modules: ['vfio_iommu_type1'],
  'mdev-samples': { mtty: { devices: [{ uuid: UUID, type: 'mtty-1' }] } },
};

/** Everything that a test needs. */
export class Lab implements AsyncDisposable {
  readonly linux: Linux;
  readonly machine: Machine;
  readonly context: ServerContext;
  readonly server: VfioUserServer;
  readonly path: string;
  readonly #directory: string;
  readonly #clients: RawClient[] = [];

  private constructor(linux: Linux, machine: Machine, directory: string, address: string, options: ServeOptions) {
    this.linux = linux;
    this.machine = machine;
    this.#directory = directory;
    this.path = join(directory, 'socket');
    this.context = new ServerContext(linux, (error) => {
      throw error;
    });
    const listener = listenUnix(linux, this.path);
    this.server = new VfioUserServer(this.context, listener, { host: machine.host, address }, options);
  }

  static async create(options: ServeOptions = {}): Promise<Lab> {
    const linux = await Linux.load({ checked: true });
    const clock = new VirtualClock();
    const machine = await Machine.load(card, { drivers: [driverPackage], checked: true, clock });
    return new Lab(linux, machine, mkdtempSync(join(tmpdir(), 'vfio-user-')), UUID, options);
  }

  /** A client that has said nothing yet. */
  connect(): RawClient {
    const client = RawClient.connect(this.linux, this.path);
    this.#clients.push(client);
    return client;
  }

  /** A client that has exchanged versions. */
  async open(json?: string): Promise<RawClient> {
    const client = await RawClient.open(this.linux, this.path, json);
    this.#clients.push(client);
    return client;
  }

  /** Lets a client go, and waits until the server has noticed. */
  async leave(client: RawClient): Promise<void> {
    client[Symbol.dispose]();
    this.#clients.splice(this.#clients.indexOf(client), 1);
    for (let turns = 0; turns < 100 && this.server.isBusy; turns++) await turn();
    await this.server.idle();
  }

  /** Descriptors of this process that are open. */
  fdCount(): number {
    return readdirSync('/proc/self/fd').length;
  }

  /** Ends everything: whatever is open then was forgotten. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients.splice(0)) client[Symbol.dispose]();
    await this.server.close();
    this.context[Symbol.dispose]();
    rmSync(this.#directory, { recursive: true });
    await this.machine[Symbol.asyncDispose]();
    this.linux[Symbol.dispose]();
  }
}
