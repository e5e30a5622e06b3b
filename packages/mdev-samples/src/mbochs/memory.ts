/** Video memory of mbochs: pages that come when they are touched first, and all go when the last user closes the device. */
import { isSystemError, PAGE_SIZE, type PageRange, type PhysicalMemory } from '@vfio/host';

/** The pages of a display. */
export class VideoMemory {
  /** Bytes. */
  readonly size: number;
  readonly #memory: PhysicalMemory;
  readonly #pages = new Map<number, PageRange>();

  constructor(size: number, memory: PhysicalMemory) {
    this.size = size;
    this.#memory = memory;
  }

  /** Pages that were touched. */
  get touched(): number {
    return this.#pages.size;
  }

  /**
   * A page, of zeros when it is touched first. The reference stays with this object; whoever keeps the page takes one.
   *
   * @returns undefined past the end, or when there is no memory
   * @source samples/vfio-mdev/mbochs.c __mbochs_get_page()
   */
  page(index: number): PageRange | undefined {
    if (index >= this.size / PAGE_SIZE) return undefined;
    const there = this.#pages.get(index);
    if (there) return there;
    const page = this.#alloc();
    if (page) this.#pages.set(index, page);
    return page;
  }

  /**
   * Lets all pages go, and with them what was shown.
   *
   * @source samples/vfio-mdev/mbochs.c mbochs_put_pages()
   */
  drop(): void {
    for (const page of this.#pages.values()) page.put();
    this.#pages.clear();
  }

  #alloc(): PageRange | undefined {
    try {
      return this.#memory.alloc(1, 'mbochs video memory');
    } catch (error) {
      if (!isSystemError(error)) throw error;
      return undefined; // why is not told to whoever touched it
    }
  }
}
