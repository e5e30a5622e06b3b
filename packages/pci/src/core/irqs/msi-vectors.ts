/*
 * MSI and MSI-X. A vector that was allocated stays so until the index is disabled, whether or not an eventfd is connected to
 * it; with dynamic MSI-X more are allocated as eventfds come.
 */
import { type IrqSet, IrqSetFlag } from '@vfio/core';
import { type EventFd, eventfdFromFd, type IoctlCall, type IrqAction, type IrqLine } from '@vfio/host';
import { intx } from '../../bus/intx.js';
import { allocIrqVectors, freeIrqVectors, irqVector, msixAllocIrqAt, restoreMsiMessage } from '../../bus/msi.js';
import type { PciCoreDevice } from '../core-device.js';
import { memoryLockAndEnable } from '../memory.js';
import { descriptorAt, invalid } from './intx.js';

/** A vector with an eventfd. */
interface Connected {
  readonly line: IrqLine;
  readonly action: IrqAction;
  readonly trigger: EventFd;
}

/** Vectors of one of the two kinds, while it is in use. */
export type MsiType = 'msi' | 'msix';

/**
 * The vectors of a function.
 *
 * @source drivers/vfio/pci/vfio_pci_intrs.c
 */
export class MsiVectors {
  readonly #device: PciCoreDevice;
  readonly #connected = new Map<number, Connected>();
  #type: MsiType | undefined;

  constructor(device: PciCoreDevice) {
    this.#device = device;
  }

  /** The kind that is in use. */
  get type(): MsiType | undefined {
    return this.#type;
  }

  /**
   * Does one SET_IRQS for the vectors of a kind.
   *
   * @returns 0, or how many vectors there are when there are fewer than the request needs; nothing is enabled then
   * @throws ENOTTY - an action other than TRIGGER
   * @throws EINVAL - another kind is in use, or this one is not; a vector that is not allocated
   * @throws ERANGE, ENOSPC, ENOMEM, EBADF
   * @source drivers/vfio/pci/vfio_pci_intrs.c vfio_pci_set_msi_trigger()
   */
  async set(type: MsiType, set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<number> {
    if ((set.flags & IrqSetFlag.ACTION_TYPE_MASK) !== IrqSetFlag.ACTION_TRIGGER) {
      throw invalid('ENOTTY', `${type} can only be triggered`);
    }
    const used = this.#device.irqs.type;
    if (used === type && set.count === 0 && set.flags & IrqSetFlag.DATA_NONE) {
      await this.disable();
      return 0;
    }
    if (used !== type && used !== 'none') throw invalid('EINVAL', `${used} is in use`);
    if (set.flags & IrqSetFlag.DATA_EVENTFD) return await this.#connect(type, set, data, call);
    if (used !== type) throw invalid('EINVAL', `${type} is not in use`);
    for (let i = 0; i < set.count; i++) {
      const wanted = set.flags & IrqSetFlag.DATA_NONE || data[i] !== 0;
      if (wanted) this.#connected.get(set.start + i)?.trigger.signal();
    }
    return 0;
  }

  /**
   * Disconnects all vectors and gives them back.
   *
   * @source drivers/vfio/pci/vfio_pci_intrs.c vfio_msi_disable()
   */
  async disable(): Promise<void> {
    const { pdev, nointx } = this.#device;
    for (const vector of [...this.#connected.keys()]) await this.#disconnect(vector);
    {
      using _decoding = await memoryLockAndEnable(this.#device);
      freeIrqVectors(pdev);
    }
    // Disabling MSI has cleared the bit that keeps a broken pin quiet.
    if (nointx) intx(pdev, false);
    this.#type = undefined;
  }

  async #connect(type: MsiType, set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<number> {
    if (this.#type === type) {
      await this.#setBlock(set, data, call);
      return 0;
    }
    const available = await this.#enable(type, set.start + set.count);
    if (available > 0) return available;
    try {
      await this.#setBlock(set, data, call);
    } catch (error) {
      await this.disable();
      throw error;
    }
    return 0;
  }

  /**
   * @returns 0, or how many vectors could be had if those are fewer; none is kept then
   * @source drivers/vfio/pci/vfio_pci_intrs.c vfio_msi_enable()
   */
  async #enable(type: MsiType, count: number): Promise<number> {
    const { pdev, config } = this.#device;
    {
      using _decoding = await memoryLockAndEnable(this.#device);
      const got = allocIrqVectors(pdev, 1, count, type);
      if (got < count) {
        freeIrqVectors(pdev);
        return got;
      }
    }
    this.#type = type;
    // What the user may choose in the capability is bounded by what there is, rounded up to a power of two.
    if (type === 'msi' && config) config.msiQmax = Math.ceil(Math.log2(count));
    return 0;
  }

  /** All of the block, or none of it up to the one that failed. Source: vfio_pci_intrs.c vfio_msi_set_block() */
  async #setBlock(set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<void> {
    for (let i = 0; i < set.count; i++) {
      try {
        await this.#setVector(set.start + i, descriptorAt(data, i, call), call);
      } catch (error) {
        for (let j = 0; j <= i; j++) await this.#disconnect(set.start + j);
        throw error;
      }
    }
  }

  /** Source: drivers/vfio/pci/vfio_pci_intrs.c vfio_msi_set_vector_signal() */
  async #setVector(vector: number, fd: number, call: IoctlCall): Promise<void> {
    await this.#disconnect(vector);
    if (fd < 0) return;
    const { pdev } = this.#device;
    const type = this.#type ?? 'msi';
    const line = await this.#lineOf(vector);
    pdev.pciHost.faults.check('vfio_msi_set_vector_signal:ctx');
    const trigger = eventfdFromFd(call.process, fd);
    try {
      // Requesting the line unmasks the entry in the table, which needs memory to be decoded.
      using _decoding = await memoryLockAndEnable(this.#device);
      // The message may be lost: a reset that the kernel did not see has cleared the table.
      if (type === 'msix') restoreMsiMessage(pdev, vector);
      const action = line.request(`vfio-${type}[${vector}](${pdev.name})`, () => {
        trigger.signal();
        return 'handled';
      });
      this.#connected.set(vector, { line, action, trigger });
    } catch (error) {
      trigger.put();
      throw error;
    }
  }

  /** The line of a vector, which dynamic MSI-X allocates on demand. Source: vfio_pci_intrs.c vfio_msi_alloc_irq() */
  async #lineOf(vector: number): Promise<IrqLine> {
    const { pdev, hasDynMsix } = this.#device;
    const line = irqVector(pdev, vector);
    if (line) return line;
    if (this.#type !== 'msix' || !hasDynMsix) throw invalid('EINVAL', `vector ${vector} is not allocated`);
    using _decoding = await memoryLockAndEnable(this.#device);
    return msixAllocIrqAt(pdev, vector);
  }

  async #disconnect(vector: number): Promise<void> {
    const connected = this.#connected.get(vector);
    if (!connected) return;
    this.#connected.delete(vector);
    const { line, action, trigger } = connected;
    {
      // Masking the entry in the table needs memory to be decoded.
      using _decoding = await memoryLockAndEnable(this.#device);
      line.free(action);
    }
    trigger.put();
  }
}
