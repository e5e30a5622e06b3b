import { File, type Mapping, O } from '@vfio/host';

/** A file whose mapping is the registers of a device. */
export class IoFile extends File {
  readonly #mapping: Mapping;

  constructor(mapping: Mapping) {
    super({ flags: O.RDWR, label: 'registers', seek: 'none' });
    this.#mapping = mapping;
  }

  override mmap(): Mapping {
    return this.#mapping;
  }
}
