/** Something that all devices of a sample share, counted in units: ports, megabytes. */
import { VfioError } from '@vfio/core';

/**
 * A number of units of which each device takes a share when it is made and gives it back when its last reference goes.
 *
 * @source samples/vfio-mdev/mtty.c mdev_avail_ports, mbochs.c mbochs_avail_mbytes
 */
export class ResourcePool {
  readonly #what: string;
  #free: number;

  /**
   * @param what - the unit, in the plural, for messages
   * @param size - units in the full pool
   */
  constructor(what: string, size: number) {
    this.#what = what;
    this.#free = size;
  }

  /** Units that nobody has. */
  get free(): number {
    return this.#free;
  }

  /**
   * Takes units. Look and take are one step, as a loop of compare-and-swap is in the kernel.
   *
   * @throws ENOSPC - fewer are left; nothing is taken
   */
  take(units: number): void {
    if (this.#free < units) throw new VfioError('ENOSPC', `${this.#free} ${this.#what} left, ${units} are needed`);
    this.#free -= units;
  }

  /** Gives back what was taken. */
  give(units: number): void {
    this.#free += units;
  }
}
