/*
 * Where the pins of functions lead: through bridges, which shift pins by slot, to an interrupt of the platform. Several pins
 * are one wire, which is asserted as long as one of them is.
 */
import type { Host, IrqLine } from '@vfio/host';
import type { PciDev } from './pci-dev.js';
import { slotOf } from './regs.js';

/** A platform interrupt with what is wired to it. */
export class IntxWire {
  readonly number: number;
  readonly #host: Host;
  readonly #asserting = new Set<object>();
  #line: IrqLine | undefined;

  constructor(host: Host, number: number) {
    this.#host = host;
    this.number = number;
  }

  /**
   * The line, which is made when the first function on it is enabled.
   *
   * @throws EEXIST - somebody else has the number
   * @throws ENOMEM
   * @source drivers/acpi/pci_irq.c acpi_pci_irq_enable()
   */
  line(): IrqLine {
    if (!this.#line) {
      this.#line = this.#host.irq.allocLine('level-low', this.number);
      if (this.#asserting.size > 0) this.#line.raise();
    }
    return this.#line;
  }

  /** A function asserts its pin. */
  raise(source: object): void {
    if (this.#asserting.has(source)) return;
    this.#asserting.add(source);
    if (this.#asserting.size === 1) this.#line?.raise();
  }

  /** A function lets go. */
  lower(source: object): void {
    if (this.#asserting.delete(source) && this.#asserting.size === 0) this.#line?.lower();
  }

  /** The machine ends. */
  free(): void {
    if (this.#line) this.#host.irq.freeLine(this.#line);
    this.#line = undefined;
  }
}

/**
 * The pin of the root bus that a function's pin ends at.
 *
 * @source drivers/pci/pci.c pci_swizzle_interrupt_pin(), pci_common_swizzle()
 */
export function rootPin(pdev: PciDev): { readonly slot: number; readonly pin: number } {
  let { pin } = pdev;
  let at = pdev;
  for (let bridge = at.pciBus.self; bridge; bridge = at.pciBus.self) {
    const slot = at.pciBus.ariEnabled ? 0 : slotOf(at.devfn);
    pin = ((pin - 1 + slot) % 4) + 1;
    at = bridge;
  }
  return { slot: slotOf(at.devfn), pin };
}

/**
 * Connects a function's pin, when it is enabled.
 *
 * @throws EEXIST, ENOMEM - as `IntxWire.line`
 * @source arch/x86/pci/common.c pcibios_enable_device()
 */
export function enableIrq(pdev: PciDev): void {
  if (pdev.pin === 0 || pdev.irqLine || !pdev.intxWire) return;
  const line = pdev.intxWire.line();
  pdev.irqLine = line;
  if (pdev.msi?.type !== 'msi') pdev.irq = line.irq;
}
