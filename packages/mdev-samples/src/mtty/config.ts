/**
 * Config space of the serial card. Nothing in it has an effect: decoding is always on, the addresses in the BARs are only
 * stored. Writes are told apart by the offset of the access as a whole, so that the middle of a register takes none.
 */
import type { AccessWidth } from '../common/access.js';
import { ALL_ONES, ConfigOffset, SampleConfigSpace } from '../common/config-space.js';

/** Vendor 0x4348, device 0x3253: a WCH CH352, which Linux takes for a 16550A without looking. */
const DEVICE_ID = 0x3253_4348;
/** Decodes I/O; can neither master the bus nor switch INTx off. */
const COMMAND = 0x0001;
/** Medium DEVSEL timing, no capabilities. */
const STATUS = 0x0200;
/** Revision 0x10, programming interface 2 (16550), class 0x0700: a serial controller. */
const REVISION_AND_CLASS = 0x0700_0210;
/** An I/O BAR. */
const BAR_IO = 0x1;
/** Low bits of a BAR that an address is OR-ed with. */
const BAR_LOW_BITS = 0x3;
/** What all ones leave of an I/O BAR of eight bytes. */
const BAR_SIZE_MASK = 0xffff_fff8;
const INTERRUPT_PIN_A = 1;
/** Bytes of the card that mean nothing here: offset and value. */
const VENDOR_BYTES = [
  [0x40, 0x23],
  [0x43, 0x80],
  [0x44, 0x23],
  [0x48, 0x23],
  [0x4c, 0x23],
] as const;
const NAME = 'PCI Serial/UART';
const NAME_OFFSET = 0x60;
/** An offset is cut to this many values before it is looked at. */
const OFFSETS = 0x1_0000;

/**
 * The 255 bytes of config space.
 *
 * @source samples/vfio-mdev/mtty.c mtty_create_config_space(), handle_pci_cfg_write()
 */
export class MttyConfigSpace extends SampleConfigSpace {
  readonly #ports: number;
  readonly #log: (text: string) => void;

  /**
   * @param ports - 1 or 2; the second one has BAR1
   * @param log - hears of addresses written to a BAR and of writes that have no effect
   */
  constructor(ports: number, log: (text: string) => void) {
    super();
    this.#ports = ports;
    this.#log = log;
    this.store32(ConfigOffset.ID, DEVICE_ID);
    this.store16(ConfigOffset.COMMAND, COMMAND);
    this.store16(ConfigOffset.STATUS, STATUS);
    this.store32(ConfigOffset.REVISION, REVISION_AND_CLASS);
    this.store32(ConfigOffset.BAR0, BAR_IO);
    if (ports === 2) this.store32(ConfigOffset.BAR1, BAR_IO);
    this.store32(ConfigOffset.SUBSYSTEM, DEVICE_ID);
    this.bytes[ConfigOffset.INTERRUPT_PIN] = INTERRUPT_PIN_A;
    for (const [offset, value] of VENDOR_BYTES) this.bytes[offset] = value;
    for (let i = 0; i < NAME.length; i++) this.bytes[NAME_OFFSET + i] = NAME.charCodeAt(i);
  }

  override write(offset: number, width: AccessWidth, value: number): void {
    const register = offset % OFFSETS;
    switch (register) {
      case ConfigOffset.COMMAND:
      case ConfigOffset.STATUS:
      case ConfigOffset.INTERRUPT_PIN:
        break;
      case ConfigOffset.INTERRUPT_LINE:
        this.bytes[register] = value;
        break;
      case ConfigOffset.BAR0:
        this.#writeBar(register, 0, value);
        break;
      case ConfigOffset.BAR1:
        if (this.#ports === 1) this.store32(register, 0);
        else this.#writeBar(register, 1, value);
        break;
      case ConfigOffset.BAR2:
      case ConfigOffset.BAR3:
      case ConfigOffset.BAR4:
        this.store32(register, 0);
        break;
      default:
        this.#log(`PCI config write @0x${register.toString(16)} of ${width} bytes not handled`);
        break;
    }
  }

  #writeBar(register: number, index: number, value: number): void {
    this.#log(`BAR${index} addr 0x${value.toString(16)}`);
    const address = value === ALL_ONES ? BAR_SIZE_MASK : value;
    // the low bits of the old value are added to those of the new one, so bit 1 can be set but never cleared
    this.store32(register, (address | (this.load32(register) & BAR_LOW_BITS)) >>> 0);
  }
}
