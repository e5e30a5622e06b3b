/*
 * The side of the bus that a function uses. It ends with the function's device: what the hardware does after that has no effect.
 */
import { DmaEngine } from '@vfio/host';
import { reportError } from './aer.js';
import type { PciPort } from './function.js';
import type { PciDev } from './pci-dev.js';

/** A port whose function the bus knows. */
export class PciDevPort implements PciPort {
  readonly name: string;
  readonly dma: DmaEngine;
  readonly #pdev: PciDev;
  #closed = false;

  constructor(pdev: PciDev) {
    const { iommu, busMemory, irq } = pdev.pciHost;
    this.name = pdev.name;
    this.#pdev = pdev;
    // Who was behind an IOMMU stays so when its device is gone: nothing is mapped for it then.
    let last = iommu.unitOf(pdev);
    this.dma = new DmaEngine(pdev.name, busMemory, irq, {
      unit: () => {
        last = iommu.unitOf(pdev) ?? last;
        return last;
      },
      domain: () => pdev.iommuGroup?.domain,
      pasids: () => iommu.pasidsOf(pdev).max,
      pasidDomain: (pasid) => pdev.iommuGroup?.pasidDomain(pasid),
    });
  }

  raiseIntx(): void {
    if (!this.#closed) this.#pdev.intxWire?.raise(this.#pdev);
  }

  lowerIntx(): void {
    this.#pdev.intxWire?.lower(this.#pdev);
  }

  reportError(severity: 'correctable' | 'non-fatal' | 'fatal'): void {
    if (!this.#closed) reportError(this.#pdev, severity);
  }

  /** The function's device is gone. */
  close(): void {
    this.#closed = true;
    this.lowerIntx();
  }
}
