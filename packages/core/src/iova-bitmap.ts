/**
 * A bitmap in a caller's memory, one bit for each page of a range of I/O virtual addresses, that a device's log of writes
 * is reported into. Bits are only ever set: what the caller had there stays.
 */
import { type IoctlCall, isSystemError, type SystemError } from '@vfio/host';

/** What an `IovaBitmap` covers, and where it is. */
export interface IovaBitmapOptions {
  /** First address, which bit 0 stands for. */
  readonly iova: bigint;
  /** Bytes of addresses. */
  readonly length: bigint;
  /** Bytes that a bit stands for; a power of two. */
  readonly pageSize: bigint;
  /** Where the bitmap is in the caller's memory: words of 64 bits in the caller's byte order. */
  readonly address: bigint;
}

/** Bytes of the bitmap that are put together before they are written. */
const windowBytes = 4096;
const windowBits = windowBytes * 8;
/** Bytes of ones that are written at a time. */
const onesBytes = 1 << 18;

/**
 * A caller's bitmap. Bits are collected for a page of it at a time and merged with what is there when another page's turn
 * comes or at `flush`; runs that fill whole pages of it are written without being read first.
 *
 * @source drivers/iommu/iommufd/iova_bitmap.c
 */
export class IovaBitmap {
  readonly iova: bigint;
  readonly length: bigint;
  readonly pageSize: bigint;
  readonly #call: Pick<IoctlCall, 'copyInAt' | 'copyOutAt' | 'order'>;
  readonly #address: bigint;
  readonly #shift: bigint;
  /** Bits to set in the page of the bitmap that begins at byte `#windowAt`; used from `#low` to before `#high`. */
  readonly #window = new Uint8Array(windowBytes);
  #windowAt = 0;
  #low = windowBytes;
  #high = 0;
  #failure: SystemError | undefined;

  /** @throws RangeError - `pageSize` is no power of two */
  constructor(call: Pick<IoctlCall, 'copyInAt' | 'copyOutAt' | 'order'>, options: IovaBitmapOptions) {
    const { iova, length, pageSize, address } = options;
    if (pageSize < 1n || (pageSize & (pageSize - 1n)) !== 0n) throw new RangeError(`a page of ${pageSize} bytes`);
    this.iova = iova;
    this.length = length;
    this.pageSize = pageSize;
    this.#call = call;
    this.#address = address;
    this.#shift = BigInt(pageSize.toString(2).length - 1);
  }

  /**
   * Sets the bits of all pages that a range touches. What lies past the end of the bitmap is left out, a range that begins
   * outside of it altogether. A bitmap that cannot be written is reported by `flush`, so that a device whose log is read
   * and cleared in one go need not stop half way; until then nothing more is written, and this returns at once.
   *
   * @param iova - first address
   * @param length - bytes
   * @source drivers/iommu/iommufd/iova_bitmap.c iova_bitmap_set()
   */
  set(iova: bigint, length: bigint): void {
    const end = this.iova + this.length;
    if (length <= 0n || iova < this.iova || iova >= end) return;
    const last = iova + length > end ? end : iova + length;
    this.#setBits(Number((iova - this.iova) >> this.#shift), Number((last - 1n - this.iova) >> this.#shift) + 1);
  }

  /**
   * Writes what is still to be written. The bitmap can be used further.
   *
   * Differs: a part of the bitmap that can not be written is an error; the kernel drops its bits in silence.
   *
   * @throws EFAULT - a part of the bitmap is not mapped or not writable; of what was set after that was found, nothing
   * has been written
   */
  flush(): void {
    this.#writeWindow();
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure;
  }

  /** Sets bits `from` to before `to`. */
  #setBits(from: number, to: number): void {
    let bit = from;
    while (bit < to && !this.#failure) {
      const page = Math.floor(bit / windowBits);
      const whole = Math.floor(to / windowBits) - page;
      if (bit === page * windowBits && whole > 0) {
        this.#writeOnes(page * windowBytes, whole * windowBytes);
        bit += whole * windowBits;
      } else {
        const next = Math.min(to, (page + 1) * windowBits);
        this.#collect(page * windowBytes, bit - page * windowBits, next - page * windowBits);
        bit = next;
      }
    }
  }

  /** Sets bits `from` to before `to` of the page of the bitmap that begins at byte `at`. */
  #collect(at: number, from: number, to: number): void {
    if (at !== this.#windowAt) {
      this.#writeWindow();
      this.#windowAt = at;
    }
    const window = this.#window;
    // In a big-endian word the bytes of its bits are counted from the other end: what is touched there are whole words.
    const big = this.#call.order === 'big';
    const unit = big ? 8 : 1;
    const flip = big ? 7 : 0;
    this.#low = Math.min(this.#low, Math.floor(from / (8 * unit)) * unit);
    this.#high = Math.max(this.#high, Math.ceil(to / (8 * unit)) * unit);
    let bit = from;
    for (; bit < to && bit % 64 !== 0; bit++) orByte(window, (bit >> 3) ^ flip, 1 << (bit & 7));
    const wordsEnd = to - (to % 64);
    if (bit < wordsEnd) {
      window.fill(0xff, bit / 8, wordsEnd / 8);
      bit = wordsEnd;
    }
    for (; bit < to; bit++) orByte(window, (bit >> 3) ^ flip, 1 << (bit & 7));
  }

  #writeWindow(): void {
    const low = this.#low;
    const high = this.#high;
    if (low >= high) return;
    const bits = this.#window.subarray(low, high);
    const address = this.#address + BigInt(this.#windowAt + low);
    this.#attempt(() => {
      const bytes = this.#call.copyInAt(address, bits.length);
      for (const [i, byte] of bits.entries()) orByte(bytes, i, byte);
      this.#call.copyOutAt(address, bytes);
    });
    bits.fill(0);
    this.#low = windowBytes;
    this.#high = 0;
  }

  /** Writes ones from byte `at` of the bitmap on. */
  #writeOnes(at: number, length: number): void {
    const ones = new Uint8Array(Math.min(length, onesBytes)).fill(0xff);
    for (let done = 0; done < length && !this.#failure; done += ones.length) {
      const bytes = ones.subarray(0, length - done);
      this.#attempt(() => this.#call.copyOutAt(this.#address + BigInt(at + done), bytes));
    }
  }

  /**
   * Keeps the first failure for `flush`, and writes nothing after it: a bitmap of a huge range that is not there would
   * fail in every one of its parts.
   */
  #attempt(write: () => void): void {
    if (this.#failure) return;
    try {
      write();
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.#failure = error;
    }
  }
}

function orByte(bytes: Uint8Array, at: number, mask: number): void {
  bytes[at] = (bytes[at] ?? 0) | mask;
}
