/*
 * The two interrupts that no hardware raises: an error of the link, and the wish that the user gives the device back.
 */
import { type IrqSet, IrqSetFlag } from '@vfio/core';
import { type EventFd, eventfdFromFd, type IoctlCall } from '@vfio/host';
import { descriptorAt, invalid } from './intx.js';

/**
 * One eventfd that a user may connect.
 *
 * @source drivers/vfio/pci/vfio_pci_intrs.c vfio_pci_set_ctx_trigger_single()
 */
export class Trigger {
  #event: EventFd | undefined;

  /** Whether an eventfd is connected. */
  get connected(): boolean {
    return this.#event !== undefined;
  }

  /** Signals whoever listens. */
  signal(): void {
    this.#event?.signal();
  }

  /** Disconnects. */
  drop(): void {
    const event = this.#event;
    this.#event = undefined;
    event?.put();
  }

  /**
   * Does one SET_IRQS.
   *
   * @throws ENOTTY - an action other than TRIGGER
   * @throws EINVAL - not interrupt 0, nothing connected to act on, or a descriptor below -1
   * @throws EBADF, EINVAL - no eventfd; what was connected stays
   */
  set(set: IrqSet, data: Uint8Array, call: IoctlCall): void {
    if ((set.flags & IrqSetFlag.ACTION_TYPE_MASK) !== IrqSetFlag.ACTION_TRIGGER) {
      throw invalid('ENOTTY', 'can only be triggered');
    }
    if (set.start !== 0 || set.count > 1) throw invalid('EINVAL', `${set.count} interrupts from ${set.start}`);
    if (set.flags & IrqSetFlag.DATA_NONE) {
      if (!this.#event) throw invalid('EINVAL', 'no eventfd is connected');
      if (set.count > 0) this.signal();
      else this.drop();
      return;
    }
    if (set.count === 0) throw invalid('EINVAL', 'no interrupt is meant');
    if (set.flags & IrqSetFlag.DATA_BOOL) {
      if (data[0] !== 0) this.signal();
      return;
    }
    this.#connect(descriptorAt(data, 0, call), call);
  }

  #connect(fd: number, call: IoctlCall): void {
    if (fd < -1) throw invalid('EINVAL', `descriptor ${fd}`);
    const event = fd < 0 ? undefined : eventfdFromFd(call.process, fd);
    this.drop();
    this.#event = event;
  }
}
