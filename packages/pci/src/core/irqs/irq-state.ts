/*
 * The interrupts of a function: what each index is, and who serves a SET_IRQS for it. One of pin, MSI and MSI-X is in use at a
 * time; error and request are beside them.
 */
import {
  copyArgsz,
  type IrqInfo,
  IrqInfoFlag,
  type IrqSet,
  irqInfo,
  irqSet,
  PCI_NUM_IRQS,
  PciIrqIndex,
  setIrqsValidateAndPrepare,
  VfioError,
} from '@vfio/core';
import type { IoctlCall } from '@vfio/host';
import { vectorCount } from '../../bus/msi.js';
import type { PciCoreDevice } from '../core-device.js';
import { Intx, invalid } from './intx.js';
import { MsiVectors } from './msi-vectors.js';
import { Trigger } from './triggers.js';

/** The kind of interrupt that is in use. */
export type IrqTypeInUse = 'none' | 'intx' | 'msi' | 'msix';

/**
 * All interrupts of one function.
 *
 * @source drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_core.c vfio_pci_ioctl_get_irq_info(), vfio_pci_ioctl_set_irqs()
 */
export class IrqState {
  readonly intx: Intx;
  readonly msi: MsiVectors;
  /** An error of the link. */
  readonly err = new Trigger();
  /** The driver wants the device back. */
  readonly req = new Trigger();
  readonly #device: PciCoreDevice;

  constructor(device: PciCoreDevice) {
    this.#device = device;
    this.intx = new Intx(device);
    this.msi = new MsiVectors(device);
  }

  /** What is in use. */
  get type(): IrqTypeInUse {
    if (this.intx.active) return 'intx';
    return this.msi.type ?? 'none';
  }

  /**
   * Interrupts that an index has.
   *
   * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_get_irq_count()
   */
  count(index: number): number {
    const { pdev, config } = this.#device;
    switch (index) {
      case PciIrqIndex.INTX:
        return config !== undefined && config.interruptPin !== 0 ? 1 : 0;
      case PciIrqIndex.MSI:
        return pdev.msiCap === 0 ? 0 : vectorCount(pdev, 'msi');
      case PciIrqIndex.MSIX:
        return pdev.msixCap === 0 ? 0 : vectorCount(pdev, 'msix');
      case PciIrqIndex.ERR:
        return pdev.isPcie ? 1 : 0;
      case PciIrqIndex.REQ:
        return 1;
      default:
        return 0;
    }
  }

  /**
   * VFIO_DEVICE_GET_IRQ_INFO.
   *
   * @throws EINVAL - `argsz` is too small, there is no such index, or the function is not PCI Express and has no errors
   * @throws EFAULT
   */
  ioctlGetIrqInfo(call: IoctlCall): number {
    const info = irqInfo.decode(copyArgsz(call, irqInfo.size), call.order);
    this.#describe(info);
    call.copyOut(irqInfo.encode(info, call.order));
    return 0;
  }

  /**
   * VFIO_DEVICE_SET_IRQS.
   *
   * @returns 0, or the number of vectors that there are, if they are fewer than the request needs
   * @throws EINVAL, EFAULT, ENOTTY, EBUSY, EBADF, ENODEV, ENOSPC, ERANGE, ENOMEM - see the index
   */
  async ioctlSetIrqs(call: IoctlCall): Promise<number> {
    const set = irqSet.decode(call.copyIn(irqSet.size), call.order);
    const size = setIrqsValidateAndPrepare(set, this.count(set.index), PCI_NUM_IRQS);
    const data = size > 0 ? call.copyIn(size, irqSet.size) : new Uint8Array(0);
    using _held = await this.#device.igate.lock();
    return await this.#dispatch(set, data, call);
  }

  /** Masks the pin. @returns whether that changed anything */
  intxMask(): boolean {
    return this.intx.mask();
  }

  /** Unmasks the pin, and signals what the function still asserts. */
  intxUnmask(): void {
    this.intx.unmask();
  }

  /** Ends whatever is in use; error and request stay. */
  async disable(): Promise<void> {
    if (this.intx.active) await this.intx.disable();
    else if (this.msi.type) await this.msi.disable();
  }

  #describe(info: IrqInfo): void {
    const { pdev, hasDynMsix } = this.#device;
    const { index } = info;
    const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = IrqInfoFlag;
    if (index >= PCI_NUM_IRQS || (index === PciIrqIndex.ERR && !pdev.isPcie)) {
      throw new VfioError('EINVAL', `no interrupt index ${index}`, { syscall: 'VFIO_DEVICE_GET_IRQ_INFO' });
    }
    info.flags = EVENTFD;
    if (index === PciIrqIndex.INTX) info.flags |= MASKABLE | AUTOMASKED;
    else if (index !== PciIrqIndex.MSIX || !hasDynMsix) info.flags |= NORESIZE;
    info.count = this.count(index);
  }

  /** Source: drivers/vfio/pci/vfio_pci_intrs.c vfio_pci_set_irqs_ioctl() */
  async #dispatch(set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<number> {
    switch (set.index) {
      case PciIrqIndex.INTX:
        await this.intx.set(set, data, call);
        return 0;
      case PciIrqIndex.MSI:
        return await this.msi.set('msi', set, data, call);
      case PciIrqIndex.MSIX:
        return await this.msi.set('msix', set, data, call);
      case PciIrqIndex.ERR:
        this.err.set(set, data, call);
        return 0;
      case PciIrqIndex.REQ:
        this.req.set(set, data, call);
        return 0;
      default:
        throw invalid('ENOTTY', `interrupt index ${set.index}`);
    }
  }
}
