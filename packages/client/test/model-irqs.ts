// Interrupts of the model device: index 0 masks itself, index 1 has several vectors, index 2 exists in name only.

import { type IrqInfo, IrqInfoFlag, type IrqSet, IrqSetFlag, VfioError, type VirqfdSlot } from '@vfio/core';
import { type EventFd, eventfdFromFd, type IoctlCall } from '@vfio/host';
import type { ModelDevice } from './model-device.js';

/** Vectors that index 1 says it has. */
export const vectorCount = 4;

/** Fills in an index. */
export function modelIrqInfo(info: IrqInfo): void {
  const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = IrqInfoFlag;
  if (info.index > 1) throw new VfioError('EINVAL', `interrupt index ${info.index}`);
  info.flags = info.index === 0 ? EVENTFD | MASKABLE | AUTOMASKED : EVENTFD | NORESIZE;
  info.count = info.index === 0 ? 1 : vectorCount;
}

/** The interrupts of one device. */
export class ModelIrqs {
  masked = false;
  readonly #device: ModelDevice;
  readonly #triggers: (EventFd | undefined)[][] = [[], []];
  readonly #enabled = [false, false];
  readonly #slots: { readonly mask: VirqfdSlot; readonly unmask: VirqfdSlot } = { mask: {}, unmask: {} };

  constructor(device: ModelDevice) {
    this.#device = device;
  }

  /** The device raises an interrupt. */
  raise(index: number, vector = 0): void {
    if (index === 0 && this.masked) return;
    if (index === 0) this.masked = true;
    this.#triggers[index]?.[vector]?.signal();
  }

  /** Carries out a request that was checked. */
  async set(set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<number> {
    const { ACTION_TYPE_MASK, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = IrqSetFlag;
    const action = set.flags & ACTION_TYPE_MASK;
    if (action === ACTION_TRIGGER) return this.#trigger(set, data, call);
    const mask = action === ACTION_MASK;
    if (set.index !== 0 || (!mask && action !== ACTION_UNMASK)) throw new VfioError('ENOTTY', 'no such action');
    if (!this.#enabled[0]) throw new VfioError('EINVAL', 'the interrupt is not in use');
    if (set.flags & IrqSetFlag.DATA_EVENTFD) await this.#listen(mask, fdsOf(data, call)[0] ?? -1, call);
    else if (applies(set, data, 0)) this.masked = mask;
    return 0;
  }

  /** Ends everything, as the last close does. */
  async disable(): Promise<void> {
    for (const index of [0, 1]) this.#disable(index);
    await this.#device.vfio.virqfds.disable(this.#slots.mask);
    await this.#device.vfio.virqfds.disable(this.#slots.unmask);
  }

  #trigger(set: IrqSet, data: Uint8Array, call: IoctlCall): number {
    const { index, start, count, flags } = set;
    if (flags & IrqSetFlag.DATA_EVENTFD) return this.#connect(set, fdsOf(data, call), call);
    if (flags & IrqSetFlag.DATA_NONE && count === 0 && this.#enabled[index]) {
      this.#disable(index);
      return 0;
    }
    if (!this.#enabled[index]) throw new VfioError('EINVAL', 'the interrupt is not in use');
    for (let i = 0; i < count; i++) if (applies(set, data, i)) this.raise(index, start + i);
    return 0;
  }

  #connect({ index, start }: IrqSet, fds: readonly number[], call: IoctlCall): number {
    const available = index === 0 ? 1 : this.#device.options.vectors;
    // as in the kernel: fewer vectors than asked for is no error, and enables nothing
    if (!this.#enabled[index] && start + fds.length > available) return available;
    const wasEnabled = this.#enabled[index] ?? false;
    this.#enabled[index] = true;
    for (const [i, fd] of fds.entries()) {
      try {
        this.#bind(index, start + i, fd < 0 ? undefined : eventfdFromFd(call.process, fd));
      } catch (error) {
        for (let vector = start; vector < start + i; vector++) this.#bind(index, vector, undefined);
        if (!wasEnabled) this.#disable(index);
        throw error;
      }
    }
    return 0;
  }

  #bind(index: number, vector: number, event: EventFd | undefined): void {
    const triggers = this.#triggers[index] ?? [];
    triggers[vector]?.put();
    triggers[vector] = event;
  }

  #disable(index: number): void {
    for (const [vector] of (this.#triggers[index] ?? []).entries()) this.#bind(index, vector, undefined);
    this.#enabled[index] = false;
    if (index === 0) this.masked = false;
  }

  async #listen(mask: boolean, fd: number, call: IoctlCall): Promise<void> {
    const { virqfds } = this.#device.vfio;
    const slot = mask ? this.#slots.mask : this.#slots.unmask;
    if (fd < 0) {
      await virqfds.disable(slot);
      return;
    }
    const handler = () => {
      this.masked = mask;
      return false;
    };
    virqfds.enable(call.process, fd, slot, { handler });
  }
}

function fdsOf(data: Uint8Array, call: IoctlCall): number[] {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  return Array.from({ length: data.length / 4 }, (_, i) => view.getInt32(i * 4, call.order === 'little'));
}

/** Whether interrupt `start + i` is meant. */
function applies(set: IrqSet, data: Uint8Array, i: number): boolean {
  return (set.flags & IrqSetFlag.DATA_NONE) !== 0 || data[i] !== 0;
}
