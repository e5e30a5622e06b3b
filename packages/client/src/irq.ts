// Interrupts of a device: eventfds that it signals, masks, and eventfds that unmask.

import { IrqInfoFlag, IrqSetFlag, irqSet, Request } from '@vfio/core';
import type { Device } from './device.js';

/** What a device tells of one interrupt index, and how to use it. */
export class Irq {
  readonly device: Device;
  readonly index: number;
  /** IrqInfoFlag bits. */
  readonly flags: number;
  /** Interrupts in the index. */
  readonly count: number;

  constructor(device: Device, info: { index: number; flags: number; count: number }) {
    this.device = device;
    this.index = info.index;
    this.flags = info.flags;
    this.count = info.count;
  }

  /** It can signal eventfds. */
  get eventfd(): boolean {
    return (this.flags & IrqInfoFlag.EVENTFD) !== 0;
  }

  get maskable(): boolean {
    return (this.flags & IrqInfoFlag.MASKABLE) !== 0;
  }

  /** It masks itself when it signals. */
  get automasked(): boolean {
    return (this.flags & IrqInfoFlag.AUTOMASKED) !== 0;
  }

  /** All interrupts of the index are set up at once. */
  get noresize(): boolean {
    return (this.flags & IrqInfoFlag.NORESIZE) !== 0;
  }

  /**
   * Connects eventfds, one for each interrupt from `start` on; undefined disconnects one. The first call enables the
   * index.
   *
   * @returns 0, or how many vectors there are when there are fewer than asked for
   */
  setEventfds(eventfds: readonly (number | undefined)[], start = 0): Promise<number> {
    return this.#eventfds(IrqSetFlag.ACTION_TRIGGER, eventfds, start);
  }

  /** Eventfds that unmask the interrupt when they are signalled. */
  setUnmaskEventfds(eventfds: readonly (number | undefined)[], start = 0): Promise<number> {
    return this.#eventfds(IrqSetFlag.ACTION_UNMASK, eventfds, start);
  }

  /** Eventfds that mask the interrupt when they are signalled. */
  setMaskEventfds(eventfds: readonly (number | undefined)[], start = 0): Promise<number> {
    return this.#eventfds(IrqSetFlag.ACTION_MASK, eventfds, start);
  }

  /** Disables the whole index. */
  disable(): Promise<number> {
    return this.#none(IrqSetFlag.ACTION_TRIGGER, 0, 0);
  }

  /** Signals as if the device had. */
  trigger(start = 0, count = 1): Promise<number> {
    return this.#none(IrqSetFlag.ACTION_TRIGGER, start, count);
  }

  /** Signals those that are true. */
  triggerWhere(values: readonly boolean[], start = 0): Promise<number> {
    return this.#set(
      IrqSetFlag.ACTION_TRIGGER | IrqSetFlag.DATA_BOOL,
      start,
      values.length,
      Uint8Array.from(values, (value) => (value ? 1 : 0)),
    );
  }

  mask(start = 0, count = 1): Promise<number> {
    return this.#none(IrqSetFlag.ACTION_MASK, start, count);
  }

  unmask(start = 0, count = 1): Promise<number> {
    return this.#none(IrqSetFlag.ACTION_UNMASK, start, count);
  }

  #none(action: number, start: number, count: number): Promise<number> {
    return this.#set(action | IrqSetFlag.DATA_NONE, start, count, new Uint8Array(0));
  }

  #eventfds(action: number, eventfds: readonly (number | undefined)[], start: number): Promise<number> {
    const data = new Uint8Array(eventfds.length * 4);
    const view = new DataView(data.buffer);
    const little = this.device.transport.byteOrder === 'little';
    for (const [i, fd] of eventfds.entries()) view.setInt32(i * 4, fd ?? -1, little);
    return this.#set(action | IrqSetFlag.DATA_EVENTFD, start, eventfds.length, data);
  }

  #set(flags: number, start: number, count: number, data: Uint8Array): Promise<number> {
    const bytes = new Uint8Array(irqSet.size + data.length);
    const header = { argsz: bytes.length, flags, index: this.index, start, count };
    bytes.set(irqSet.encode(header, this.device.transport.byteOrder));
    bytes.set(data, irqSet.size);
    return this.device.ioctl('VFIO_DEVICE_SET_IRQS', Request.DEVICE_SET_IRQS, bytes);
  }
}
