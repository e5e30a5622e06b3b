/*
 * Message signalled interrupts: MSI and MSI-X.
 */
import type { IrqLine, IrqVector } from '@vfio/host';
import type { PciDev } from './pci-dev.js';

/** What the bus keeps of a function's vectors. */
export interface MsiState {
  readonly type: 'msi' | 'msix';
  /** By number; a hole is not allocated. */
  readonly vectors: Map<number, IrqVector>;
}

/** Kinds of interrupts. */
export type IrqType = 'intx' | 'msi' | 'msix';

/** Vectors that a function could have. Source: drivers/pci/msi/api.c pci_msi_vec_count(), pci_msix_vec_count() */
export function vectorCount(_pdev: PciDev, _type: 'msi' | 'msix'): number {
  throw new TypeError('to come');
}

/**
 * Allocates vectors and enables them in the function, whose memory must be decoded for MSI-X.
 *
 * @returns how many there are, `min` to `max`
 * @throws ERANGE - max below min, or 0
 * @throws ENOSPC - fewer than `min` can be had
 * @throws EINVAL - the function has none of this type, or they are enabled already
 * @source drivers/pci/msi/api.c pci_alloc_irq_vectors()
 */
export function allocIrqVectors(_pdev: PciDev, _min: number, _max: number, _type: 'msi' | 'msix'): number {
  throw new TypeError('to come');
}

/** Source: drivers/pci/msi/api.c pci_free_irq_vectors() */
export function freeIrqVectors(_pdev: PciDev): void {
  throw new TypeError('to come');
}

/** The line of a vector that is allocated. Source: drivers/pci/msi/api.c pci_irq_vector() */
export function irqVector(_pdev: PciDev, _index: number): IrqLine | undefined {
  throw new TypeError('to come');
}

/** Whether vectors can be added after MSI-X is enabled. Source: drivers/pci/msi/api.c pci_msix_can_alloc_dyn() */
export function msixCanAllocDyn(_pdev: PciDev): boolean {
  throw new TypeError('to come');
}

/**
 * Allocates one more vector while MSI-X is enabled.
 *
 * @throws EINVAL, EBUSY, ENOSPC
 * @source drivers/pci/msi/api.c pci_msix_alloc_irq_at()
 */
export function msixAllocIrqAt(_pdev: PciDev, _index: number): IrqLine {
  throw new TypeError('to come');
}

/**
 * Writes the message of a vector to the function again, as the kernel remembers it.
 *
 * @source drivers/pci/msi/msi.c pci_write_msi_msg()
 */
export function restoreMsiMessage(_pdev: PciDev, _index: number): void {
  throw new TypeError('to come');
}
