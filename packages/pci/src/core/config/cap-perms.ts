/*
 * What a user may read and write of the header and of each capability: tables, register by register, and which writes do more
 * than change bits.
 */
import {
  Af,
  CapId,
  Command,
  Err,
  Exp,
  ExtCapId,
  Msi,
  Pcix,
  Pm,
  Reg,
  STD_HEADER_SIZE,
  Status,
  Vpd,
} from '../../bus/regs.js';
import { ALL, NONE, type PermBits, permBits } from './perm-bits.js';

/** What a write does. */
export const Writer = {
  /** Nothing: it is dropped unseen. */
  DROP: 0,
  /** It changes writable bits. */
  BITS: 1,
  HEADER: 2,
  PM: 3,
  VPD: 4,
  EXP: 5,
  AF: 6,
  MSI: 7,
  /** All of it goes to the hardware. */
  RAW: 8,
} as const;
export type Writer = (typeof Writer)[keyof typeof Writer];

/** What a user may do with a capability. */
export interface CapAccess {
  readonly perm: PermBits;
  readonly writer: Writer;
  /** It has no permissions of its own: all is the hardware's, except what links it to the next. */
  readonly direct: boolean;
}

/** Bytes of a capability: where its list goes on, and where its registers begin. */
const CAP_NEXT = 1;
const EXT_CAP_HEADER = 4;
/** Power budgeting: what was selected. */
const PWR_DATA = 8;
/** Largest of all variants. */
const SIZE = { PCIX: 24, EXP: 0x34, AF: 6, MSI: 24, ERR: 0x2c, PWR: 16 } as const;

// The link to the next capability is virtual everywhere, so that capabilities can be left out.
const NEXT = [CAP_NEXT, 1, ALL, NONE] as const;
const EXT_HEADER = [0, 4, ALL, NONE] as const;

// biome-ignore format: a table reads in columns
const headerPerm = permBits(STD_HEADER_SIZE, [
  // Virtual functions have ones where their ids should be.
  [Reg.VENDOR_ID,       2, ALL,                  NONE],
  [Reg.DEVICE_ID,       2, ALL,                  NONE],
  // The pin is masked by whoever has the interrupt.
  [Reg.COMMAND,         2, Command.INTX_DISABLE, ALL],
  [Reg.STATUS,          2, Status.CAP_LIST,      NONE],
  [Reg.CACHE_LINE_SIZE, 1, NONE,                 ALL],
  [Reg.LATENCY_TIMER,   1, NONE,                 ALL],
  [Reg.BIST,            1, NONE,                 ALL],
  [Reg.BASE_ADDRESS_0,      4, ALL, ALL],
  [Reg.BASE_ADDRESS_0 + 4,  4, ALL, ALL],
  [Reg.BASE_ADDRESS_0 + 8,  4, ALL, ALL],
  [Reg.BASE_ADDRESS_0 + 12, 4, ALL, ALL],
  [Reg.BASE_ADDRESS_0 + 16, 4, ALL, ALL],
  [Reg.BASE_ADDRESS_0 + 20, 4, ALL, ALL],
  [Reg.ROM_ADDRESS,     4, ALL,                  ALL],
  [Reg.CAPABILITY_LIST, 1, ALL,                  NONE],
  [Reg.INTERRUPT_LINE,  1, ALL,                  ALL],
  [Reg.INTERRUPT_PIN,   1, ALL,                  NONE],
]);

const PME = Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS;

// Wake events are the host's; a state is changed by the bus, not by the bits.
const pmPerm = permBits(Pm.SIZEOF, [
  NEXT,
  [Pm.PMC, 2, Pm.CAP_PME_MASK, NONE],
  [Pm.CTRL, 4, PME, ~(PME | Pm.CTRL_STATE_MASK)],
]);

const vpdPerm = permBits(8, [NEXT, [Vpd.ADDR, 2, ALL, ALL], [Vpd.DATA, 4, ALL, ALL]]);

const pcixPerm = permBits(SIZE.PCIX, [NEXT, [Pcix.CMD, 2, NONE, ALL], [Pcix.ECC_CSR, 4, NONE, ALL]]);

// Payload is a matter of the whole machine; a read request must not be smaller; a reset is done by the bus.
const expPerm = permBits(SIZE.EXP, [
  NEXT,
  [Exp.DEVCTL, 2, Exp.DEVCTL_BCR_FLR | Exp.DEVCTL_PAYLOAD | Exp.DEVCTL_READRQ, ~Exp.DEVCTL_PHANTOM],
  [Exp.DEVCTL2, 2, NONE, ~Exp.DEVCTL2_ARI],
]);

const afPerm = permBits(SIZE.AF, [NEXT, [Af.CTRL, 1, Af.CTRL_FLR, Af.CTRL_FLR]]);

const UNCORRECTABLE = 0x03ff_f031;
const CORRECTABLE = 0x0000_f1c1;
const ECRC_ENABLES = 0x0000_0140;

const errPerm = permBits(SIZE.ERR, [
  EXT_HEADER,
  [Err.UNCOR_STATUS, 4, NONE, UNCORRECTABLE],
  [Err.UNCOR_MASK, 4, NONE, UNCORRECTABLE],
  [Err.UNCOR_SEVER, 4, NONE, UNCORRECTABLE],
  [Err.COR_STATUS, 4, NONE, CORRECTABLE],
  [Err.COR_MASK, 4, NONE, CORRECTABLE],
  [Err.CAP, 4, NONE, ECRC_ENABLES],
]);

// What can be written here is what was selected, and not the selection.
const pwrPerm = permBits(SIZE.PWR, [EXT_HEADER, [PWR_DATA, 1, NONE, ALL]]);

const linkPerm = permBits(CAP_NEXT + 1, [NEXT]);
const extLinkPerm = permBits(EXT_CAP_HEADER, [EXT_HEADER]);

const direct: CapAccess = { perm: linkPerm, writer: Writer.DROP, direct: true };
const extDirect: CapAccess = { perm: extLinkPerm, writer: Writer.DROP, direct: true };

// Nobody but the vendor's driver knows what is in there.
const vendor: CapAccess = { ...direct, writer: Writer.RAW };
const extVendor: CapAccess = { ...extDirect, writer: Writer.RAW };

const own = (perm: PermBits, writer: Writer = Writer.BITS): CapAccess => ({ perm, writer, direct: false });

/** The standard header. Source: drivers/vfio/pci/vfio_pci_config.c init_pci_cap_basic_perm() */
export const headerAccess = own(headerPerm, Writer.HEADER);

const capAccesses: ReadonlyMap<number, CapAccess> = new Map<number, CapAccess>([
  [CapId.PM, own(pmPerm, Writer.PM)],
  [CapId.VPD, own(vpdPerm, Writer.VPD)],
  [CapId.PCIX, own(pcixPerm)],
  [CapId.EXP, own(expPerm, Writer.EXP)],
  [CapId.AF, own(afPerm, Writer.AF)],
  [CapId.VNDR, vendor],
]);

const extCapAccesses: ReadonlyMap<number, CapAccess> = new Map<number, CapAccess>([
  [ExtCapId.ERR, own(errPerm)],
  [ExtCapId.PWR, own(pwrPerm)],
  [ExtCapId.VNDR, extVendor],
  [ExtCapId.DVSEC, extVendor],
]);

/**
 * A capability of the first 256 bytes, other than MSI. One that is not listed can only be read.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_pci_init_perm_bits()
 */
export function capAccess(id: number): CapAccess {
  return capAccesses.get(id) ?? direct;
}

/** An extended capability. Source: drivers/vfio/pci/vfio_pci_config.c vfio_pci_init_perm_bits() */
export function extCapAccess(id: number): CapAccess {
  return extCapAccesses.get(id) ?? extDirect;
}

/**
 * MSI, whose registers are where its flags say.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c init_pci_cap_msi_perm()
 */
export function msiAccess(flags: number): CapAccess {
  const wide = (flags & Msi.FLAGS_64BIT) !== 0;
  const rows = [NEXT, [Msi.FLAGS, 1, ALL, ALL], [Msi.ADDRESS_LO, 4, ALL, ALL]] as const;
  const data = [wide ? Msi.DATA_64 : Msi.DATA_32, 2, ALL, ALL] as const;
  const high = wide ? ([[Msi.ADDRESS_HI, 4, ALL, ALL]] as const) : [];
  const masks = [
    [wide ? Msi.MASK_64 : Msi.MASK_32, 4, NONE, ALL],
    [wide ? Msi.PENDING_64 : Msi.PENDING_32, 4, NONE, ALL],
  ] as const;
  const perm = permBits(SIZE.MSI, [...rows, ...high, data, ...((flags & Msi.FLAGS_MASKBIT) === 0 ? [] : masks)]);
  return own(perm, Writer.MSI);
}
