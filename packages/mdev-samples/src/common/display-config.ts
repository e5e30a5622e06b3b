/** Config space of the displays: only their memory BARs can be written. */
import type { AccessWidth } from './access.js';
import { ALL_ONES, ConfigOffset, SampleConfigSpace } from './config-space.js';

/** Low bits of a BAR: what kind of memory it is. */
const BAR_FLAGS = 0xf;
/** A BAR of memory that may be prefetched. */
export const BAR_PREFETCH = 0x8;
/** Decodes memory and I/O. */
const COMMAND = 0x0003;
/** Revision 1, class 0x0380: a display controller other than VGA. */
const REVISION_AND_CLASS = 0x0380_0001;
/** Vendor 0x1af4, device 0x1100: what QEMU gives to its devices. */
const SUBSYSTEM = 0x1100_1af4;

/** What tells one display from the other. */
export interface DisplayFunction {
  /** Device id above vendor id. */
  readonly id: number;
  /** BARs of memory, with their sizes in bytes and their low bits. */
  readonly bars: readonly { readonly offset: number; readonly size: number; readonly flags: number }[];
}

/**
 * The 255 bytes of config space.
 *
 * @source samples/vfio-mdev/mdpy.c mdpy_create_config_space(), handle_pci_cfg_write(); mbochs.c likewise
 */
export class DisplayConfigSpace extends SampleConfigSpace {
  readonly #bars: DisplayFunction['bars'];

  constructor({ id, bars }: DisplayFunction) {
    super();
    this.#bars = bars;
    this.store32(ConfigOffset.ID, id);
    this.store16(ConfigOffset.COMMAND, COMMAND);
    this.store32(ConfigOffset.REVISION, REVISION_AND_CLASS);
    this.store32(ConfigOffset.SUBSYSTEM, SUBSYSTEM);
    for (const { offset, flags } of bars) this.store32(offset, flags);
  }

  override write(offset: number, _width: AccessWidth, value: number): void {
    const bar = this.#bars.find((one) => one.offset === offset);
    if (!bar) return; // everything else is hardwired
    const address = value === ALL_ONES ? -bar.size : value & ~BAR_FLAGS;
    this.store32(offset, (address | bar.flags) >>> 0);
  }
}
