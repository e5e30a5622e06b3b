/*
 * The interrupt pin. It masks itself when it fires: by the function's own disable bit where that works, so that the line can be
 * shared, else by disabling the line. What the user then unmasks, by request or by eventfd, fires again at once if the function
 * still asserts its pin.
 */
import { type IrqSet, IrqSetFlag, VfioError, type VirqfdSlot } from '@vfio/core';
import { type EventFd, eventfdFromFd, type IoctlCall, type IrqAction, type IrqLine, type IrqReturn } from '@vfio/host';
import { checkAndMaskIntx, checkAndUnmaskIntx, intx } from '../../bus/intx.js';
import type { PciCoreDevice } from '../core-device.js';

/**
 * What there is while the pin is in use.
 *
 * @source drivers/vfio/pci/vfio_pci_intrs.c struct vfio_pci_irq_ctx
 */
interface Active {
  readonly line: IrqLine;
  action: IrqAction | undefined;
  trigger: EventFd | undefined;
  masked: boolean;
  readonly unmask: VirqfdSlot;
}

/**
 * The interrupt pin of a function. Handlers run within the signal and nothing else runs meanwhile, so that what the kernel
 * keeps under a spin lock needs none here.
 *
 * @source drivers/vfio/pci/vfio_pci_intrs.c
 */
export class Intx {
  readonly #device: PciCoreDevice;
  #active: Active | undefined;

  constructor(device: PciCoreDevice) {
    this.#device = device;
  }

  /** Whether the pin is in use. */
  get active(): boolean {
    return this.#active !== undefined;
  }

  /** Whether it is in use and masked. */
  get masked(): boolean {
    return this.#active?.masked ?? false;
  }

  /**
   * Takes the pin's line into use.
   *
   * @param trigger - what is signalled, whose reference it takes over; undefined: nothing, until there is one
   * @throws ENODEV - the pin is not connected
   * @throws EBUSY - somebody has the line and does not share it
   * @throws ENOMEM
   * @source drivers/vfio/pci/vfio_pci_intrs.c vfio_intx_enable()
   */
  enable(trigger: EventFd | undefined): void {
    const { pdev, pci23, virqDisabled: masked } = this.#device;
    const line = pdev.irqLine;
    if (line === undefined || pdev.irq === 0) throw invalid('ENODEV', `${pdev.name} has no interrupt line`);
    pdev.pciHost.faults.check('vfio_intx_enable:ctx');
    const active: Active = { line, action: undefined, trigger, masked, unmask: {} };
    // A shared handler may be called as soon as it is there, so that the pin is masked first if it has to be.
    if (pci23) intx(pdev, !masked);
    this.#active = active;
    try {
      active.action = line.request(`vfio-intx(${pdev.name})`, () => this.#handle(active), {
        shared: pci23,
        noAutoEnable: !pci23 && masked,
      });
    } catch (error) {
      this.#active = undefined;
      throw error;
    }
  }

  /**
   * Gives the line back. Nothing signals the eventfd any more when this resolves.
   *
   * @source drivers/vfio/pci/vfio_pci_intrs.c vfio_intx_disable()
   */
  async disable(): Promise<void> {
    const active = this.#active;
    if (active === undefined) return;
    await this.#device.vfio.virqfds.disable(active.unmask);
    if (active.action) active.line.free(active.action);
    active.trigger?.put();
    active.trigger = undefined;
    this.#active = undefined;
  }

  /**
   * Masks the pin.
   *
   * @returns whether that changed anything
   * @source drivers/vfio/pci/vfio_pci_intrs.c __vfio_pci_intx_mask()
   */
  mask(): boolean {
    const { pdev, pci23 } = this.#device;
    const active = this.#active;
    if (active === undefined) {
      // The bit follows what the user writes to the command register, whoever uses interrupts.
      if (pci23) intx(pdev, false);
      return false;
    }
    if (active.masked) return false;
    if (pci23) intx(pdev, false);
    else active.line.disableNosync();
    active.masked = true;
    return true;
  }

  /** Unmasks the pin; what the function still asserts is signalled. Source: vfio_pci_intrs.c __vfio_pci_intx_unmask() */
  unmask(): void {
    if (this.#unmaskQuietly()) this.signal();
  }

  /** Signals whoever listens, unless the user has disabled the pin. Source: vfio_pci_intrs.c vfio_send_intx_eventfd() */
  signal(): void {
    if (this.#active !== undefined && !this.#device.virqDisabled) this.#active.trigger?.signal();
  }

  /**
   * Does one SET_IRQS for the pin.
   *
   * @param set - validated: exactly one kind of data, and a range inside of the index
   * @param data - the bytes behind the head
   * @throws EINVAL - not exactly interrupt 0, or the pin is not in use, or another kind of interrupt is
   * @throws ENOTTY - the action does not exist
   * @throws EBUSY - an eventfd unmasks already
   * @throws EBADF, EINVAL - no eventfd
   */
  async set(set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<void> {
    switch (set.flags & IrqSetFlag.ACTION_TYPE_MASK) {
      case IrqSetFlag.ACTION_MASK:
        this.#setMask(set, data);
        return;
      case IrqSetFlag.ACTION_UNMASK:
        await this.#setUnmask(set, data, call);
        return;
      case IrqSetFlag.ACTION_TRIGGER:
        await this.#setTrigger(set, data, call);
        return;
      default:
        throw invalid('ENOTTY', 'not one action');
    }
  }

  /** Source: drivers/vfio/pci/vfio_pci_intrs.c vfio_intx_handler() */
  #handle(active: Active): IrqReturn {
    const { pdev, pci23 } = this.#device;
    if (pci23) {
      if (active.masked || !checkAndMaskIntx(pdev)) return 'none';
    } else active.line.disableNosync();
    active.masked = true;
    this.signal();
    return 'handled';
  }

  /**
   * @returns whether the function asserts its pin, which then stays masked
   * @source drivers/vfio/pci/vfio_pci_intrs.c vfio_pci_intx_unmask_handler()
   */
  #unmaskQuietly(): boolean {
    const { pdev, pci23, virqDisabled } = this.#device;
    const active = this.#active;
    if (active === undefined) {
      if (pci23) intx(pdev, true);
      return false;
    }
    if (!active.masked || virqDisabled) return false;
    if (pci23) {
      if (!checkAndUnmaskIntx(pdev)) return true;
      active.masked = false;
      return false;
    }
    // A level that is up fires within enable, which masks again.
    active.masked = false;
    active.line.enable();
    return false;
  }

  #setMask(set: IrqSet, data: Uint8Array): void {
    this.#requireActive(set);
    if (set.flags & IrqSetFlag.DATA_EVENTFD) throw invalid('ENOTTY', 'an eventfd can not mask');
    if (applies(set, data)) this.mask();
  }

  async #setUnmask(set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<void> {
    const active = this.#requireActive(set);
    if (!(set.flags & IrqSetFlag.DATA_EVENTFD)) {
      if (applies(set, data)) this.unmask();
      return;
    }
    const { virqfds } = this.#device.vfio;
    const fd = descriptorAt(data, 0, call);
    if (fd < 0) {
      await virqfds.disable(active.unmask);
      return;
    }
    virqfds.enable(call.process, fd, active.unmask, {
      handler: () => this.#unmaskQuietly(),
      thread: () => this.signal(),
    });
  }

  async #setTrigger(set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<void> {
    const { type } = this.#device.irqs;
    if (type === 'intx' && set.count === 0 && set.flags & IrqSetFlag.DATA_NONE) {
      await this.disable();
      return;
    }
    if ((type !== 'intx' && type !== 'none') || set.start !== 0 || set.count !== 1) {
      throw invalid('EINVAL', `interrupt pin: ${set.count} from ${set.start} while ${type} is in use`);
    }
    if (set.flags & IrqSetFlag.DATA_EVENTFD) {
      const fd = descriptorAt(data, 0, call);
      const trigger = fd >= 0 ? eventfdFromFd(call.process, fd) : undefined;
      try {
        if (this.#active) await this.#swap(this.#active, trigger);
        else this.enable(trigger);
      } catch (error) {
        trigger?.put();
        throw error;
      }
      return;
    }
    if (!this.#active) throw invalid('EINVAL', 'the interrupt pin is not in use');
    if (applies(set, data)) this.signal();
  }

  /**
   * Changes the eventfd. The old one is put when neither the handler nor the unmasking thread can use it any more.
   *
   * @source drivers/vfio/pci/vfio_pci_intrs.c vfio_intx_set_signal()
   */
  async #swap(active: Active, trigger: EventFd | undefined): Promise<void> {
    const old = active.trigger;
    active.trigger = trigger;
    if (old === undefined) return;
    active.line.synchronize();
    await this.#device.vfio.virqfds.flushThread(active.unmask);
    old.put();
  }

  #requireActive(set: IrqSet): Active {
    if (!this.#active || set.start !== 0 || set.count !== 1) {
      throw invalid('EINVAL', `interrupt pin: ${set.count} from ${set.start}, ${this.#active ? '' : 'not '}in use`);
    }
    return this.#active;
  }
}

/** Whether the one interrupt is meant: always without data, with a boolean if it is true. */
function applies(set: IrqSet, data: Uint8Array): boolean {
  return (set.flags & IrqSetFlag.DATA_NONE) !== 0 || data[0] !== 0;
}

/** The descriptor for the n-th interrupt of a request. */
export function descriptorAt(data: Uint8Array, n: number, call: IoctlCall): number {
  return new DataView(data.buffer, data.byteOffset).getInt32(4 * n, call.order === 'little');
}

/** An error of SET_IRQS. */
export function invalid(code: 'EINVAL' | 'ENOTTY' | 'ENODEV', reason: string): VfioError {
  return new VfioError(code, reason, { syscall: 'VFIO_DEVICE_SET_IRQS' });
}
