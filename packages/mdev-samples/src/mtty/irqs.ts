/**
 * Interrupts of the serial card: INTx, which masks itself when it fires, and MSI, which never does. One of the two is in
 * use at a time; whoever wants the other must disable the first. Nothing is level triggered: a cause that comes while
 * INTx is masked is lost.
 */
import { type IrqInfo, IrqInfoFlag, type IrqSet, IrqSetFlag, PciIrqIndex, VfioError } from '@vfio/core';
import { type EventFd, eventfdFromFd, type IoctlCall } from '@vfio/host';

/** An interrupt that has somewhere to go. */
interface ActiveInterrupt {
  readonly index: number;
  readonly eventfd: EventFd;
}

/**
 * Fills in what an interrupt index is.
 *
 * @throws EINVAL - neither INTx nor MSI
 * @source samples/vfio-mdev/mtty.c mtty_get_irq_info()
 */
export function mttyIrqInfo(info: IrqInfo): void {
  const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = IrqInfoFlag;
  if (info.index === PciIrqIndex.INTX) info.flags = EVENTFD | MASKABLE | AUTOMASKED;
  else if (info.index === PciIrqIndex.MSI) info.flags = EVENTFD | NORESIZE;
  else throw new VfioError('EINVAL', `interrupt index ${info.index} does not exist`);
  info.count = 1;
}

/**
 * The interrupt state of one card.
 *
 * @source samples/vfio-mdev/mtty.c mtty_trigger_interrupt(), mtty_set_irqs()
 */
export class MttyIrqs {
  #active: ActiveInterrupt | undefined;
  /** INTx only. */
  #masked = false;

  /** A cause: signals whoever listens, unless it is INTx and masked. */
  trigger(): void {
    if (this.#active === undefined) return;
    if (this.#active.index === PciIrqIndex.INTX) {
      if (this.#masked) return;
      this.#masked = true;
    }
    this.#active.eventfd.signal();
  }

  /**
   * Does what a SET_IRQS request asks for.
   *
   * @param set - validated: index below 5, exactly one kind of data
   * @param data - the bytes behind the header that belong to `set`: a byte, an s32 or nothing for each interrupt
   * @param call - whose descriptors and byte order `data` has
   * @throws EINVAL - the other interrupt is in use, or this one is not; not exactly interrupt 0
   * @throws ENOTTY - no such index, or an action that the index does not have
   * @throws EBADF, EINVAL - the descriptor is none, or not an eventfd; the one before it is disconnected all the same
   */
  set(set: IrqSet, data: Uint8Array, call: IoctlCall): void {
    if (set.index !== PciIrqIndex.INTX && set.index !== PciIrqIndex.MSI) {
      throw new VfioError('ENOTTY', `interrupt index ${set.index} can not be set`);
    }
    switch (set.flags & IrqSetFlag.ACTION_TYPE_MASK) {
      case IrqSetFlag.ACTION_MASK:
        this.#setMask(set, data, true);
        break;
      case IrqSetFlag.ACTION_UNMASK:
        this.#setMask(set, data, false);
        break;
      case IrqSetFlag.ACTION_TRIGGER:
        this.#setTrigger(set, data, call);
        break;
      default: // no action, or several: succeeds and does nothing
        break;
    }
  }

  /** Disconnects whatever is connected. */
  disable(): void {
    const active = this.#active;
    if (active === undefined) return;
    this.#active = undefined;
    this.#masked = false;
    active.eventfd.put();
  }

  #setMask(set: IrqSet, data: Uint8Array, masked: boolean): void {
    if (set.index === PciIrqIndex.MSI) throw new VfioError('ENOTTY', 'MSI can not be masked');
    if (this.#active?.index !== PciIrqIndex.INTX) throw new VfioError('EINVAL', 'INTx is not in use');
    requireFirst(set);
    if ((set.flags & IrqSetFlag.DATA_EVENTFD) !== 0) {
      throw new VfioError('ENOTTY', 'INTx can not be masked or unmasked by an eventfd');
    }
    if (applies(set, data)) this.#masked = masked;
  }

  #setTrigger(set: IrqSet, data: Uint8Array, call: IoctlCall): void {
    const mine = this.#active?.index === set.index;
    if (mine && set.count === 0 && (set.flags & IrqSetFlag.DATA_NONE) !== 0) {
      this.disable();
      return;
    }
    if (this.#active !== undefined && !mine) {
      throw new VfioError('EINVAL', `interrupt index ${this.#active.index} is in use`);
    }
    requireFirst(set);
    if ((set.flags & IrqSetFlag.DATA_EVENTFD) !== 0) {
      this.#connect(set.index, data, call);
      return;
    }
    if (!mine) throw new VfioError('EINVAL', `interrupt index ${set.index} is not in use`);
    if (applies(set, data)) this.trigger();
  }

  #connect(index: number, data: Uint8Array, call: IoctlCall): void {
    this.disable(); // first, so that a bad descriptor leaves nothing connected
    const fd = new DataView(data.buffer, data.byteOffset).getInt32(0, call.order === 'little');
    if (fd < 0) return;
    this.#active = { index, eventfd: eventfdFromFd(call.process, fd) };
  }
}

/** Each index has one interrupt. */
function requireFirst(set: IrqSet): void {
  if (set.start !== 0 || set.count !== 1) {
    throw new VfioError('EINVAL', `${set.count} interrupts from ${set.start} on, there is one`);
  }
}

/** Whether the only interrupt is meant: always without data, with a boolean if it is true. */
function applies(set: IrqSet, data: Uint8Array): boolean {
  return (set.flags & IrqSetFlag.DATA_NONE) !== 0 || data[0] !== 0;
}
