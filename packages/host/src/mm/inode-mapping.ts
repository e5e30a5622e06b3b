/*
 * All mappings of one inode. Every descriptor of a device shares it, so that a reset can take the device's pages
 * away from all processes at once.
 */
import type { Vma } from './vma.js';

/** The mappings of an inode, over all processes. */
export class InodeMapping {
  /** Made with the first mapping: few devices are ever mapped. */
  #vmas: Set<Vma> | undefined;

  /** Mappings that exist now. */
  get size(): number {
    return this.#vmas?.size ?? 0;
  }

  /** Called by an address space when a mapping comes to be. */
  add(vma: Vma): void {
    this.#vmas ??= new Set();
    this.#vmas.add(vma);
  }

  /** Called by an address space when a mapping goes. */
  delete(vma: Vma): void {
    this.#vmas?.delete(vma);
  }

  /**
   * Takes pages away from every mapping: the next access to each faults again.
   *
   * @param offset - bytes from the start of the file
   * @param length - bytes; 0 means to the end
   * @source mm/memory.c unmap_mapping_range()
   */
  zap(offset: number, length: number): void {
    const end = length === 0 ? Number.POSITIVE_INFINITY : offset + length;
    for (const vma of this.#vmas ?? []) vma.zapFile(offset, end);
  }
}
