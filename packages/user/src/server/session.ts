// What a client has while it is connected: the device, open in a process of the host, and everything that belongs to it.
// The end of the session is the last close of the device, with whatever its driver does then.

import { type Device, ProcessTransport, VfioClient } from '@vfio/client';
import { DeviceInfoFlag, isVfioError } from '@vfio/core';
import { type Host, type Process, Undo } from '@vfio/host';
import type { Capabilities } from '../wire/capabilities.js';
import { deviceInfoMessage } from '../wire/messages.js';
import type { Call } from './call.js';
import { GuestMemory } from './dma-map.js';
import { DmaMessages } from './dma-messages.js';
import { Features } from './features.js';
import { IoFds } from './io-fds.js';
import { type IrqContext, Irqs } from './irqs.js';
import { invalid } from './refusal.js';
import { RegionFiles } from './region-files.js';
import { Regions } from './regions.js';
import { type SocketClient, type SocketDevice, socketDeviceOf } from './socket-device.js';

/** The device that a server serves. */
export interface ServedDevice {
  readonly host: Host;
  /** Its name on its bus: `0000:01:00.0`, a UUID. */
  readonly address: string;
}

/** Flags of a device that mean the same to a client. */
const flagsPassedOn = DeviceInfoFlag.RESET | DeviceInfoFlag.PCI;

/** An open device. */
export class Session {
  readonly process: Process;
  readonly device: Device;
  readonly memory: GuestMemory;
  /** How memory without a descriptor is reached. */
  readonly messages: DmaMessages;
  readonly regions: Regions;
  readonly irqs: Irqs;
  readonly features: Features;
  readonly ioFds: IoFds;
  readonly #socketDevice: SocketDevice | undefined;
  readonly #files: RegionFiles;
  readonly #flags: number;

  private constructor(
    process: Process,
    device: Device,
    flags: number,
    parts: {
      memory: GuestMemory;
      messages: DmaMessages;
      files: RegionFiles;
      regions: Regions;
      irqs: Irqs;
      features: Features;
      ioFds: IoFds;
      socketDevice: SocketDevice | undefined;
    },
  ) {
    this.process = process;
    this.device = device;
    this.memory = parts.memory;
    this.messages = parts.messages;
    this.#files = parts.files;
    this.#flags = flags;
    this.regions = parts.regions;
    this.irqs = parts.irqs;
    this.features = parts.features;
    this.ioFds = parts.ioFds;
    this.#socketDevice = parts.socketDevice;
    this.#socketDevice?.setClient(clientOf(this));
  }

  /**
   * Opens the device in a process of its own, as a program would: through its group, or through its own node where the host
   * has no groups.
   *
   * @param own - what the server said of itself
   * @param theirs - what the client said of itself
   * @param post - sends a command to the client
   * @throws VfioError - as opening does: EBUSY when somebody else has it, ENODEV when no VFIO driver is bound to it
   */
  static async open(
    { host, address }: ServedDevice,
    context: IrqContext,
    { own, theirs, post }: { own: Capabilities; theirs: Capabilities; post: (message: Uint8Array) => void },
  ): Promise<Session> {
    await using undo = new Undo();
    const process = host.spawn({ comm: 'vfio-user' });
    undo.add(() => process.exit());
    const device = await openDevice(new VfioClient(new ProcessTransport(process)), address);
    undo.add(() => device.close());
    const { flags } = await device.info();
    const files = new RegionFiles({ linux: context.linux, host, process, device: device.fd });
    undo.add(() => files.close());
    const regions = await Regions.of(process, device, files);
    const irqs = await Irqs.of(context, process, device);
    const features = new Features(process, device);
    const messages = new DmaMessages({ clock: host.clock, most: Math.max(1, theirs.maxDataXferSize), post });
    const placeContext = { linux: context.linux, host, process };
    const memory = new GuestMemory(placeContext, device.space, messages, own.maxDmaMaps);
    const socketDevice = socketDeviceOf(process, device.fd);
    const ioFds = new IoFds(context, socketDevice);
    undo.keep();
    const parts = { memory, messages, files, regions, irqs, features, ioFds, socketDevice };
    return new Session(process, device, flags, parts);
  }

  /** DEVICE_GET_INFO. */
  info(call: Call): void {
    if (call.length < deviceInfoMessage.size) throw invalid(`${call.length} bytes do not hold a request`);
    const { argsz } = deviceInfoMessage.decode(call.payload(0, deviceInfoMessage.size), 'little');
    if (argsz < deviceInfoMessage.size) throw invalid(`argsz is ${argsz}`);
    const answer = {
      argsz: deviceInfoMessage.size,
      flags: this.#flags & flagsPassedOn,
      numRegions: this.regions.count,
      numIrqs: this.irqs.count,
    };
    call.replyWith(deviceInfoMessage.encode(answer, 'little'));
  }

  /** DEVICE_RESET. Mappings and eventfds stay. */
  async reset(): Promise<void> {
    await this.device.reset();
    await this.features.wasReset();
  }

  /** Closes the device, and whatever else is open. */
  async close(): Promise<void> {
    await using undo = new Undo();
    undo.add(() => this.process.exit());
    undo.add(() => this.memory.close());
    undo.add(() => this.device.close());
    undo.add(() => this.#files.close());
    undo.add(() => this.irqs.closeAll());
    undo.add(() => this.features.close());
    undo.add(() => this.ioFds.close());
    undo.add(() => this.#socketDevice?.setClient(undefined));
  }
}

/** What the device may know of its client. */
function clientOf({ memory, messages }: Pick<Session, 'memory' | 'messages'>): SocketClient {
  return {
    get dmaRegions() {
      return memory.size;
    },
    readMemory: (address, into) => messages.read(address, into),
    writeMemory: (address, from) => messages.write(address, from),
  };
}

/** A host may be without groups, or without nodes of devices. */
async function openDevice(client: VfioClient, address: string): Promise<Device> {
  try {
    return await client.openDevice(address);
  } catch (error) {
    if (!isVfioError(error, 'ENODEV')) throw error;
    return await client.openCdev(address).catch(() => {
      throw error;
    });
  }
}
