// Interrupts of an open device: the client's eventfds on one side, those of the device's host on the other, and who passes
// signals on between them.

import type { Device } from '@vfio/client';
import { IrqSetFlag, irqInfo, irqSet, isVfioError, PciIrqIndex, Request, VfioError } from '@vfio/core';
import { EventFdFile, type Process } from '@vfio/host';
import { type EventCalls, type Linux, PollEvent, type Reactor } from '@vfio/sys';
import type { Call } from './call.js';
import { invalid } from './refusal.js';

const data = IrqSetFlag.DATA_NONE | IrqSetFlag.DATA_BOOL | IrqSetFlag.DATA_EVENTFD;
const actions = IrqSetFlag.ACTION_MASK | IrqSetFlag.ACTION_UNMASK | IrqSetFlag.ACTION_TRIGGER;

/** What interrupts need of their surroundings. */
export interface IrqContext {
  readonly linux: Linux;
  readonly reactor: Reactor;
  readonly events: EventCalls;
}

/** A request, after what the protocol asks of it was checked. */
interface SetIrqs {
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
}

/** An eventfd of the client, connected with one of the device's host. */
interface Link {
  readonly real: number;
  /** Descriptor of the process that has the device open. */
  readonly hosted: number;
  readonly forward: Disposable;
}

/** All interrupts of one device. */
export class Irqs {
  readonly #context: IrqContext;
  readonly #process: Process;
  readonly #device: Device;
  /** Interrupts of each index; 0 of one that the device lacks. */
  readonly #counts: readonly number[];
  readonly #flags: readonly number[];
  /** By index, action and vector. */
  readonly #links = new Map<string, Link>();

  private constructor(
    context: IrqContext,
    process: Process,
    device: Device,
    infos: readonly { flags: number; count: number }[],
  ) {
    this.#context = context;
    this.#process = process;
    this.#device = device;
    this.#counts = infos.map(({ count }) => count);
    this.#flags = infos.map(({ flags }) => flags);
  }

  /** Asks the device for all of them. One that it refuses to describe is one that it lacks. */
  static async of(context: IrqContext, process: Process, device: Device): Promise<Irqs> {
    const { numIrqs } = await device.info();
    const found = new Map((await device.irqs()).map((irq) => [irq.index, irq]));
    const absent = { flags: 0, count: 0 };
    const infos = Array.from({ length: numIrqs }, (_, index) => found.get(index) ?? absent);
    return new Irqs(context, process, device, infos);
  }

  get count(): number {
    return this.#counts.length;
  }

  /** Eventfds of the client that are in use. */
  get linkCount(): number {
    return this.#links.size;
  }

  /** DEVICE_GET_IRQ_INFO. */
  info(call: Call): void {
    if (call.length < irqInfo.size) throw invalid(`${call.length} bytes do not hold a request`);
    const { argsz, index } = irqInfo.decode(call.payload(0, irqInfo.size), 'little');
    if (argsz < irqInfo.size) throw invalid(`argsz is ${argsz}`);
    if (index >= this.count) throw invalid(`interrupt index ${index} of ${this.count}`);
    const flags = this.#flags[index] ?? 0;
    call.replyWith(irqInfo.encode({ argsz: irqInfo.size, flags, index, count: this.#counts[index] ?? 0 }, 'little'));
  }

  /** DEVICE_SET_IRQS. */
  async set(call: Call): Promise<void> {
    const request = this.#parse(call);
    const values = call.payload(irqSet.size).slice();
    if ((request.flags & IrqSetFlag.DATA_EVENTFD) !== 0) await this.#setEventfds(request, call.takeFds());
    else if (request.count === 0) await this.#disable(request);
    else await this.#ioctl(request, values);
  }

  /** Disconnects everything; the device has been closed, or is about to be. */
  async closeAll(): Promise<void> {
    for (const key of [...this.#links.keys()]) await this.#unlink(key);
  }

  /** What the protocol asks of a request, before the device sees it. */
  #parse(call: Call): SetIrqs {
    if (call.length < irqSet.size) throw invalid(`${call.length} bytes do not hold a request`);
    const { argsz, flags, index, start, count } = irqSet.decode(call.payload(0, irqSet.size), 'little');
    const there = this.#counts[index];
    if (argsz < irqSet.size) throw invalid(`argsz is ${argsz}`);
    if (there === undefined) throw invalid(`interrupt index ${index} of ${this.count}`);
    const kind = flags & data;
    const action = flags & actions;
    if ((flags & ~(data | actions)) !== 0 || !isOneBit(kind) || !isOneBit(action)) {
      throw invalid(`flags 0x${flags.toString(16)}`);
    }
    const disables = kind === IrqSetFlag.DATA_NONE && action === IrqSetFlag.ACTION_TRIGGER && start === 0;
    if (count === 0 && !disables) throw invalid('no interrupts');
    if (count > 0 && (start >= there || start + count > there)) {
      throw invalid(`${count} interrupts from ${start} on, of ${there}`);
    }
    if (isSingle(index) && (action !== IrqSetFlag.ACTION_TRIGGER || count > 1)) {
      throw invalid(`index ${index} has one interrupt, which is only triggered`);
    }
    const bytes = kind === IrqSetFlag.DATA_BOOL ? count : 0;
    if (call.length !== irqSet.size + bytes || argsz < irqSet.size + bytes) {
      throw invalid(`${call.length - irqSet.size} bytes of data, argsz ${argsz}`);
    }
    const fds = call.fdCount;
    if (kind === IrqSetFlag.DATA_EVENTFD ? fds !== 0 && fds !== count : fds !== 0) {
      throw invalid(`${fds} descriptors for ${count} interrupts`);
    }
    return { flags, index, start, count };
  }

  /** Vectors get eventfds, or lose theirs. What they had is let go once the device has let go of it. */
  async #setEventfds(request: SetIrqs, fds: readonly number[]): Promise<void> {
    const { index, start, count } = request;
    const action = request.flags & actions;
    const fresh: Link[] = [];
    try {
      for (const fd of fds) fresh.push(await this.#link(fd, action));
      const bytes = new Uint8Array(count * 4);
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < count; i++) view.setInt32(i * 4, fresh[i]?.hosted ?? -1, true);
      await this.#ioctl(request, bytes);
    } catch (error) {
      for (const link of fresh) await this.#drop(link);
      for (const fd of fds.slice(fresh.length)) this.#context.linux.calls.close(fd);
      throw error;
    }
    for (let i = 0; i < count; i++) {
      const key = keyOf(index, action, start + i);
      await this.#unlink(key);
      const link = fresh[i];
      if (link !== undefined) this.#links.set(key, link);
    }
  }

  /** An index is disabled with all that was connected to it; one that is not enabled stays so. */
  async #disable(request: SetIrqs): Promise<void> {
    const prefix = `${request.index}:`;
    const keys = [...this.#links.keys()].filter((key) => key.startsWith(prefix));
    try {
      await this.#ioctl(request, new Uint8Array(0));
    } catch (error) {
      // a device may refuse to disable what nobody has enabled, a client that wants to be sure does not mind
      if (keys.length > 0 || !isVfioError(error, 'EINVAL')) throw error;
    }
    for (const key of keys) await this.#unlink(key);
  }

  async #ioctl({ flags, index, start, count }: SetIrqs, values: Uint8Array): Promise<void> {
    const bytes = new Uint8Array(irqSet.size + values.length);
    bytes.set(irqSet.encode({ argsz: bytes.length, flags, index, start, count }, 'little'));
    bytes.set(values, irqSet.size);
    await this.#device.ioctl('VFIO_DEVICE_SET_IRQS', Request.DEVICE_SET_IRQS, bytes);
  }

  /** Connects an eventfd of the client with a new one of the host, in the direction of the action. */
  async #link(real: number, action: number): Promise<Link> {
    const { events, reactor } = this.#context;
    const hosted = this.#process.eventfd(0, { nonblock: true, cloexec: true });
    const file = this.#process.files.get(hosted);
    if (!(file instanceof EventFdFile)) throw new TypeError('an eventfd of the host is none');
    const { event } = file;
    if (action === IrqSetFlag.ACTION_TRIGGER) {
      const forward = event.onSignal(() => {
        event.consume();
        events.signal(real);
      });
      return { real, hosted, forward };
    }
    try {
      const watcher = reactor.watch(real, PollEvent.IN, () => {
        if (events.take(real) > 0n) event.signal();
      });
      return { real, hosted, forward: { [Symbol.dispose]: () => watcher.stop() } };
    } catch (cause) {
      await this.#process.close(hosted);
      throw new VfioError('EINVAL', 'the descriptor can not be waited for, and so is no eventfd', { cause });
    }
  }

  async #unlink(key: string): Promise<void> {
    const link = this.#links.get(key);
    if (link === undefined) return;
    this.#links.delete(key);
    await this.#drop(link);
  }

  #drop(link: Link): Promise<void> {
    link.forward[Symbol.dispose]();
    this.#context.linux.calls.close(link.real);
    return this.#process.close(link.hosted);
  }
}

function keyOf(index: number, action: number, vector: number): string {
  return `${index}:${action}:${vector}`;
}

function isOneBit(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}

/** ERR and REQ. */
function isSingle(index: number): boolean {
  return index === PciIrqIndex.ERR || index === PciIrqIndex.REQ;
}
