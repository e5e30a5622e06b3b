/* A machine with a serial card or a PCI function, served on a socket, and raw clients of it. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VirtualClock } from '@vfio/host';
import { Machine, type MachineFile } from '@vfio/machine';
import { driverPackage as samples } from '@vfio/mdev-samples/machine';
import { driverPackage as pci } from '@vfio/pci/machine';
import { Linux, listenUnix } from '@vfio/sys';
import { type ServeOptions, ServerContext, VfioUserServer } from '../src/index.js';
import { driverPackage as testdev } from '../src/testdev/index.js';
import { RawClient, turn } from './raw-client.js';

export const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

/** QEMU's educational device, which does DMA and interrupts; 64-bit addresses, so that tests can use all of them. */
export const EDU = '0000:00:03.0';
const edu: MachineFile = {
  version: 1,
  modules: ['vfio_iommu_type1', 'vfio-pci'],
  pci: { functions: { [EDU]: { model: 'edu', dmaBits: 64 } }, bind: { 'vfio-pci': 'all' } },
};

/** A network card with MSI-X, as a program on a real kernel saw it. */
export const IGB = '0000:03:00.0';
const recordings = fileURLToPath(new URL('../../../transcripts/hardware/', import.meta.url));
const igb: MachineFile = {
  version: 1,
  modules: ['vfio_iommu_type1', 'vfio-pci'],
  pci: {
    recording: { functions: `${recordings}q35-pci.jsonl`, contents: `${recordings}q35-pci-contents.jsonl` },
    bind: { 'vfio-pci': [IGB] },
  },
};

/** A display whose video memory can be mapped. */
const display: MachineFile = {
  version: 1,
  modules: ['vfio_iommu_type1'],
  'mdev-samples': { mdpy: { devices: [{ uuid: UUID, type: 'mdpy-vga' }] } },
};

const card: MachineFile = {
  version: 1,
  modules: ['vfio_iommu_type1'],
  'mdev-samples': { mtty: { devices: [{ uuid: UUID, type: 'mtty-1' }] } },
};

const testDevice: MachineFile = { version: 1, ...testdev.samples?.testdev?.file };

const files = { mtty: card, mdpy: display, edu, igb, testdev: testDevice };
const addresses = { mtty: UUID, mdpy: UUID, edu: EDU, igb: IGB, testdev: 'testdev0' };

/** What is served, and how. */
export interface LabOptions extends ServeOptions {
  readonly device?: keyof typeof files;
}

/** Everything that a test needs. */
export class Lab implements AsyncDisposable {
  readonly linux: Linux;
  readonly machine: Machine;
  readonly context: ServerContext;
  readonly server: VfioUserServer;
  readonly clock: VirtualClock;
  readonly path: string;
  readonly #directory: string;
  readonly #clients: RawClient[] = [];

  private constructor(
    linux: Linux,
    machine: Machine,
    clock: VirtualClock,
    directory: string,
    address: string,
    options: ServeOptions,
  ) {
    this.linux = linux;
    this.clock = clock;
    this.machine = machine;
    this.#directory = directory;
    this.path = join(directory, 'socket');
    this.context = new ServerContext(linux, (error) => {
      throw error;
    });
    const listener = listenUnix(linux, this.path);
    this.server = new VfioUserServer(this.context, listener, { host: machine.host, address }, options);
  }

  static async create({ device = 'mtty', ...options }: LabOptions = {}): Promise<Lab> {
    const linux = await Linux.load({ checked: true });
    const clock = new VirtualClock();
    const drivers = [samples, pci, testdev];
    const machine = await Machine.load(files[device], { drivers, checked: true, clock });
    const directory = mkdtempSync(join(tmpdir(), 'vfio-user-'));
    return new Lab(linux, machine, clock, directory, addresses[device], options);
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
