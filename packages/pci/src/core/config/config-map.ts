/*
 * Which capability each byte of config space belongs to, and what follows from that for a byte: the permissions, and what reads
 * and writes do besides.
 */
import { widthAt } from '../../bus/cycles.js';
import type { PciWidth } from '../../bus/function.js';
import { CapId, CFG_SPACE_SIZE, Reg, STD_HEADER_SIZE } from '../../bus/regs.js';
import { type CapAccess, capAccess, extCapAccess, headerAccess, msiAccess, Writer } from './cap-perms.js';
import { ConfigBytes } from './config-bytes.js';

/** Owners that are no capability. Source: drivers/vfio/pci/vfio_pci_config.c PCI_CAP_ID_INVALID and its like */
export const Owner = {
  HEADER: 0x00,
  /** Storage of the user. */
  VIRTUAL: 0xfe,
  /** Nobody: the user reaches the hardware. */
  NOBODY: 0xff,
} as const;

/** What a read does that begins at a byte. */
export const Reader = {
  BITS: 0,
  /** BARs are made what they must be. */
  BAR: 1,
  COMMAND: 2,
  /** An id that comes with the link to the next capability is the user's, and the hardware's alone. */
  ID: 3,
} as const;

/** Bytes of registers from 0x30 on that a ROM has. */
const BAR_BYTES = 4;

/** Everything known about bytes of config space that does not change while a device is used. */
export class ConfigMap {
  /** `Owner`, or the id of a capability. */
  readonly owner: Uint8Array;
  readonly virt: ConfigBytes;
  readonly write: ConfigBytes;
  /** `Reader`, `Writer`. */
  readonly reader: Uint8Array;
  readonly writer: Uint8Array;
  /** Where its capability starts. */
  readonly start: Uint16Array;
  /** Bytes from here to the end of the dword that have the same owner. */
  readonly #run: Uint8Array;
  /** MSI differs from function to function. */
  #msi: CapAccess | undefined;

  /** @param size - bytes of config space */
  constructor(size: number) {
    this.owner = new Uint8Array(size).fill(Owner.NOBODY);
    this.owner.fill(Owner.HEADER, 0, STD_HEADER_SIZE);
    this.virt = new ConfigBytes(size);
    this.write = new ConfigBytes(size);
    this.reader = new Uint8Array(size);
    this.writer = new Uint8Array(size);
    this.start = new Uint16Array(size);
    this.#run = new Uint8Array(size);
  }

  /** Bytes of one cycle, out of `left` that are wanted. Source: vfio_pci_config.c vfio_pci_cap_remaining_dword() */
  width(position: number, left: number): PciWidth {
    const run = this.#run[position] ?? 1;
    return widthAt(position, left < run ? left : run);
  }

  /** The registers of MSI are where these flags say. Source: vfio_pci_config.c vfio_msi_cap_len() */
  setMsi(flags: number): void {
    this.#msi ??= msiAccess(flags);
  }

  /** Makes bytes storage of the user. */
  virtualize(offset: number, length: number): void {
    this.owner.fill(Owner.VIRTUAL, offset, offset + length);
    this.build();
  }

  /** Works out the rest, once owners are known. */
  build(): void {
    for (let at = this.owner.length - 1; at >= 0; at--) {
      const alone = (at & 3) === 3 || this.owner[at + 1] !== this.owner[at];
      this.#run[at] = alone ? 1 : 1 + (this.#run[at + 1] ?? 0);
    }
    for (let at = 0; at < this.owner.length; at++) this.#setByte(at);
  }

  #setByte(at: number): void {
    const owner = this.owner[at] ?? Owner.NOBODY;
    this.reader[at] = Reader.BITS;
    if (owner === Owner.NOBODY || owner === Owner.VIRTUAL) {
      this.start[at] = at;
      const virtual = owner === Owner.VIRTUAL;
      this.#permit(at, virtual ? 0xff : 0, 0xff, virtual ? Writer.BITS : Writer.RAW);
      return;
    }
    const start = this.#findCapStart(at);
    const access = this.#accessOf(at, owner);
    const offset = at - start;
    this.start[at] = start;
    this.#permit(at, access.perm.virt[offset] ?? 0, access.perm.write[offset] ?? 0, access.writer);
    if (at < STD_HEADER_SIZE) this.reader[at] = headerReader(at);
    else if (at < CFG_SPACE_SIZE && access.direct && offset === 0) this.reader[at] = Reader.ID;
  }

  #permit(at: number, virt: number, write: number, writer: Writer): void {
    this.virt.bytes[at] = virt;
    this.write.bytes[at] = write;
    this.writer[at] = writer;
  }

  #accessOf(at: number, owner: number): CapAccess {
    if (at < STD_HEADER_SIZE) return headerAccess;
    if (at >= CFG_SPACE_SIZE) return extCapAccess(owner);
    return owner === CapId.MSI && this.#msi ? this.#msi : capAccess(owner);
  }

  /** Two of a kind without a gap are one. Source: vfio_pci_config.c vfio_find_cap_start() */
  #findCapStart(at: number): number {
    if (at === 0 || at === STD_HEADER_SIZE || at === CFG_SPACE_SIZE) return at;
    return this.owner[at - 1] === this.owner[at] ? (this.start[at - 1] ?? at) : at;
  }
}

function headerReader(at: number): number {
  if (at === Reg.COMMAND) return Reader.COMMAND;
  return isBar(at) ? Reader.BAR : Reader.BITS;
}

/** Source: drivers/vfio/pci/vfio_pci_config.c is_bar() */
export function isBar(at: number): boolean {
  const bar = at >= Reg.BASE_ADDRESS_0 && at < Reg.CARDBUS_CIS;
  return bar || (at >= Reg.ROM_ADDRESS && at < Reg.ROM_ADDRESS + BAR_BYTES);
}
