/*
 * What the rest of the core asks of config space as the user sees it.
 */
import type { UserBuffer } from '@vfio/host';

/** The virtual bits that decide about more than config space itself, and the accesses of the user. */
export interface ConfigView {
  /** The memory bit of the command register. */
  readonly commandMemory: boolean;
  /** The interrupt pin; 0: the user has none. */
  readonly interruptPin: number;
  /** Logarithm of the vectors that the user may choose in the MSI capability. */
  msiQmax: number;
  /**
   * Reads all of the buffer.
   *
   * @param offset - bytes from the start of config space
   * @returns bytes read
   * @throws EFAULT - outside of config space, or the buffer is not accessible
   */
  read(into: UserBuffer, offset: number): number | Promise<number>;
  /** Writes; as `read`. */
  write(from: UserBuffer, offset: number): number | Promise<number>;
  /**
   * Makes four bytes storage of the user, whatever they were.
   *
   * @param offset - of a dword
   * @param value - what is in there at first
   */
  virtualize(offset: number, value: number): void;
  /** The device is being closed. */
  free(): void;
}
