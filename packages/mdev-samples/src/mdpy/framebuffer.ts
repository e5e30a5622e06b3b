/** Video memory of mdpy: one piece, there from the device's first moment to its last, with a picture of its own. */
import { KernelBug, PAGE_SIZE, type PageRange, type PhysicalMemory } from '@vfio/host';
import { BYTES_PER_PIXEL } from '../common/gfx-plane.js';

/** Size of a display, and of the memory behind it. */
export class Geometry {
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;

  constructor(width: number, height: number) {
    this.width = width;
    this.height = height;
  }

  /** Bytes from one row to the next. */
  get stride(): number {
    return this.width * BYTES_PER_PIXEL;
  }

  /** Bytes: all rows, up to the next power of two. */
  get memorySize(): number {
    return 2 ** Math.ceil(Math.log2(this.stride * this.height));
  }
}

/** The brightest shade of a row; only a row past the last one would have it. */
const WHITE = 255;

/** Memory, and the picture in it. */
export class Framebuffer {
  readonly geometry: Geometry;
  #range: PageRange | undefined;

  constructor(geometry: Geometry) {
    this.geometry = geometry;
  }

  /** The pages. */
  get range(): PageRange {
    if (!this.#range) throw new KernelBug('driver', 'the framebuffer has no memory');
    return this.#range;
  }

  /**
   * Takes memory and paints the picture.
   *
   * @throws ENOMEM - there is none
   */
  alloc(memory: PhysicalMemory): void {
    this.#range = memory.alloc(this.geometry.memorySize / PAGE_SIZE, 'an mdpy framebuffer');
    this.paint();
  }

  /** Gives the memory back. */
  free(): void {
    this.range.put();
    this.#range = undefined;
  }

  /**
   * Paints rows that get brighter from top to bottom; memory past the last one stays as it is.
   *
   * @source samples/vfio-mdev/mdpy.c mdpy_reset()
   */
  paint(): void {
    const { height, stride } = this.geometry;
    for (let row = 0; row < height; row++) this.#fill(row * stride, stride, Math.floor((row * WHITE) / height));
  }

  #fill(offset: number, length: number, value: number): void {
    for (let done = 0; done < length; ) {
      const part = this.range.span(offset + done, length - done);
      part.fill(value);
      done += part.length;
    }
  }
}
