/* The device under test, its machine and a process that uses it, for the time of one case. */
import { type Device, ProcessTransport, VfioClient } from '@vfio/client';
import { deviceFeature, deviceInfo, Request, type VfioDevice } from '@vfio/core';
import { type ByteOrder, type Host, type Process, Prot } from '@vfio/host';
import type { ConformanceTarget, DriverConformance } from './options.js';
import { keeps } from './promise.js';

/** Bytes of `struct vfio_device_info` before it had capabilities. */
export const INFO_MINIMUM = deviceInfo.endOf('numIrqs');
/** Bytes that no structure has by chance. */
export const FILLER = 0xa5;
const PAGE = 4096;

/** Memory of the process for the time of a request. */
export interface ArgumentMemory extends Disposable {
  readonly address: bigint;
  /** What is in it now. */
  bytes(length: number): Uint8Array;
}

/** What a case works with. */
export class Subject {
  readonly options: DriverConformance;
  readonly target: ConformanceTarget;
  /** A process of root, which ends with the case. */
  readonly process: Process;
  readonly client: VfioClient;

  constructor(options: DriverConformance, target: ConformanceTarget, process: Process) {
    this.options = options;
    this.target = target;
    this.process = process;
    this.client = new VfioClient(new ProcessTransport(process));
  }

  get host(): Host {
    return this.target.machine.host;
  }

  get order(): ByteOrder {
    return this.process.byteOrder;
  }

  /** Opens the device through its group, and asks what it is, as every program does: some drivers know their own numbers from there. */
  async open(): Promise<Device> {
    const { target, client } = this;
    return await this.#asked(await (target.open?.(client) ?? client.openDevice(target.address)));
  }

  /** Opens the device through its node, binds it to an iommufd and attaches it to an address space. */
  async openCdev(): Promise<Device> {
    const { target, client } = this;
    return await this.#asked(await (target.openCdev?.(client) ?? client.openCdev(target.address)));
  }

  async #asked(device: Device): Promise<Device> {
    try {
      // the first version of the struct: what is wrong with the rest is for a case to say
      const bytes = deviceInfo.encode({ argsz: INFO_MINIMUM }, this.order).subarray(0, INFO_MINIMUM);
      await this.ioctl(device, Request.DEVICE_GET_INFO, bytes);
      return device;
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  /** The device in the kernel; undefined when it is registered no more. */
  get registered(): VfioDevice | undefined {
    const { vfio } = this.target.machine;
    return vfio.devices().find(({ dev }) => dev.name === this.target.address);
  }

  /** How many open files the kernel counts. */
  get openCount(): number {
    const device = this.registered;
    keeps(device !== undefined, `${this.target.address} is registered with VFIO`, 'no device of that name');
    return device.openCount;
  }

  /** A request with bytes or a number, as a program makes it. */
  ioctl(device: Device, request: number, argument: Uint8Array | bigint | number = 0): Promise<number> {
    return this.process.ioctl(device.fd, request, argument);
  }

  /** A request of a feature, header and data in one. */
  feature(flags: number, data: Uint8Array = new Uint8Array(0), argsz?: number): Uint8Array {
    const bytes = new Uint8Array(deviceFeature.size + data.length);
    bytes.set(deviceFeature.encode({ argsz: argsz ?? bytes.length, flags }, this.order));
    bytes.set(data, deviceFeature.size);
    return bytes;
  }

  /** Memory that can be read and not written. */
  readOnly(bytes: Uint8Array): ArgumentMemory {
    return this.#memory(bytes, Prot.READ);
  }

  /** Memory that can be read and written. */
  memory(bytes: Uint8Array): ArgumentMemory {
    return this.#memory(bytes, Prot.READ | Prot.WRITE);
  }

  #memory(bytes: Uint8Array, prot: Prot): ArgumentMemory {
    const { mm } = this.process;
    const length = Math.ceil(Math.max(bytes.length, 1) / PAGE) * PAGE;
    const address = mm.mmap({ length, prot: Prot.READ | Prot.WRITE });
    mm.copyTo(address, bytes);
    mm.mprotect(address, length, prot);
    return {
      address,
      bytes: (count) => mm.copyFrom(address, count),
      [Symbol.dispose]: () => mm.munmap(address, length),
    };
  }
}

/** One case: a promise with a name. */
export interface CaseSpec {
  /** `<room>: <promise>`; also the key of an exception. */
  readonly name: string;
  /** Whether it applies. Default: always. */
  when?(options: DriverConformance): boolean;
  run(subject: Subject): Promise<void>;
  /** Longer than a runner waits by default, in milliseconds. */
  readonly timeoutMs?: number;
}

/** A structure cut at `argsz` bytes, in a longer buffer that is filled behind it: what the kernel writes there shows. */
export function padded(struct: Uint8Array, argsz: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(FILLER);
  bytes.set(struct.subarray(0, argsz));
  return bytes;
}

/** Where somebody has written past the first `argsz` bytes; undefined if nobody has. */
export function writtenPast(bytes: Uint8Array, argsz: number): number | undefined {
  const at = bytes.subarray(argsz).findIndex((byte) => byte !== FILLER);
  return at < 0 ? undefined : argsz + at;
}
