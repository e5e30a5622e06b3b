/*
 * Config space by name: registers of the header and of capabilities, and their bits. Offsets within a capability count from
 * its first byte.
 */

/** Registers of the header. Source: include/uapi/linux/pci_regs.h */
export const Reg = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION_ID: 0x08,
  CLASS_PROG: 0x09,
  CLASS_DEVICE: 0x0a,
  CACHE_LINE_SIZE: 0x0c,
  LATENCY_TIMER: 0x0d,
  HEADER_TYPE: 0x0e,
  BIST: 0x0f,
  BASE_ADDRESS_0: 0x10,
  CARDBUS_CIS: 0x28,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  ROM_ADDRESS: 0x30,
  CAPABILITY_LIST: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
  MIN_GNT: 0x3e,
  MAX_LAT: 0x3f,
} as const;

/** Registers of a bridge's header (type 1). */
export const BridgeReg = {
  PRIMARY_BUS: 0x18,
  SECONDARY_BUS: 0x19,
  SUBORDINATE_BUS: 0x1a,
  SEC_LATENCY_TIMER: 0x1b,
  IO_BASE: 0x1c,
  IO_LIMIT: 0x1d,
  SEC_STATUS: 0x1e,
  MEMORY_BASE: 0x20,
  MEMORY_LIMIT: 0x22,
  PREF_MEMORY_BASE: 0x24,
  PREF_MEMORY_LIMIT: 0x26,
  PREF_BASE_UPPER32: 0x28,
  PREF_LIMIT_UPPER32: 0x2c,
  IO_BASE_UPPER16: 0x30,
  IO_LIMIT_UPPER16: 0x32,
  ROM_ADDRESS: 0x38,
  BRIDGE_CONTROL: 0x3e,
} as const;

/** Bits of a bridge's control register. */
export const BridgeControl = { VGA: 0x08, BUS_RESET: 0x40 } as const;

/** Bits of the command register. */
export const Command = {
  IO: 0x0001,
  MEMORY: 0x0002,
  MASTER: 0x0004,
  SPECIAL: 0x0008,
  INVALIDATE: 0x0010,
  VGA_PALETTE: 0x0020,
  PARITY: 0x0040,
  WAIT: 0x0080,
  SERR: 0x0100,
  FAST_BACK: 0x0200,
  INTX_DISABLE: 0x0400,
} as const;

/** Bits of the status register. */
export const Status = {
  INTERRUPT: 0x0008,
  CAP_LIST: 0x0010,
  PARITY: 0x0100,
  SIG_TARGET_ABORT: 0x0800,
  REC_TARGET_ABORT: 0x1000,
  REC_MASTER_ABORT: 0x2000,
  SIG_SYSTEM_ERROR: 0x4000,
  DETECTED_PARITY: 0x8000,
} as const;

/** The header type register. */
export const HeaderType = { NORMAL: 0, BRIDGE: 1, CARDBUS: 2, MASK: 0x7f, MFD: 0x80 } as const;

/** Bits of a base address register. */
export const BaseAddress = {
  SPACE_IO: 0x01,
  MEM_TYPE_MASK: 0x06,
  MEM_TYPE_64: 0x04,
  MEM_PREFETCH: 0x08,
  MEM_MASK: 0xffff_fff0,
  IO_MASK: 0xffff_fffc,
} as const;

/** Bits of the ROM base address register. */
export const RomAddress = { ENABLE: 0x01, MASK: 0xffff_f800 } as const;

/** Capabilities of the first 256 bytes. */
export const CapId = {
  PM: 0x01,
  AGP: 0x02,
  VPD: 0x03,
  SLOTID: 0x04,
  MSI: 0x05,
  CHSWP: 0x06,
  PCIX: 0x07,
  HT: 0x08,
  VNDR: 0x09,
  DBG: 0x0a,
  CCRC: 0x0b,
  SHPC: 0x0c,
  SSVID: 0x0d,
  AGP3: 0x0e,
  SECDEV: 0x0f,
  EXP: 0x10,
  MSIX: 0x11,
  SATA: 0x12,
  AF: 0x13,
  EA: 0x14,
} as const;

/** Extended capabilities, from 0x100 on. */
export const ExtCapId = {
  ERR: 0x01,
  VC: 0x02,
  DSN: 0x03,
  PWR: 0x04,
  RCLD: 0x05,
  RCILC: 0x06,
  RCEC: 0x07,
  MFVC: 0x08,
  VC9: 0x09,
  RCRB: 0x0a,
  VNDR: 0x0b,
  CAC: 0x0c,
  ACS: 0x0d,
  ARI: 0x0e,
  ATS: 0x0f,
  SRIOV: 0x10,
  MRIOV: 0x11,
  MCAST: 0x12,
  PRI: 0x13,
  AMD_XXX: 0x14,
  REBAR: 0x15,
  DPA: 0x16,
  TPH: 0x17,
  LTR: 0x18,
  SECPCI: 0x19,
  PMUX: 0x1a,
  PASID: 0x1b,
  DPC: 0x1d,
  L1SS: 0x1e,
  PTM: 0x1f,
  DVSEC: 0x23,
  VF_REBAR: 0x24,
  DLF: 0x25,
  PL_16GT: 0x26,
  DOE: 0x2e,
} as const;

/** First byte behind the header, and first byte of the extended capabilities. */
export const STD_HEADER_SIZE = 0x40;
export const CFG_SPACE_SIZE = 0x100;
export const CFG_SPACE_EXP_SIZE = 0x1000;

/** Power management capability. */
export const Pm = {
  PMC: 2,
  CTRL: 4,
  CTRL_STATE_MASK: 0x0003,
  CTRL_NO_SOFT_RESET: 0x0008,
  CTRL_PME_ENABLE: 0x0100,
  CTRL_PME_STATUS: 0x8000,
  CAP_D1: 0x0200,
  CAP_D2: 0x0400,
  CAP_PME_MASK: 0xf800,
  SIZEOF: 8,
} as const;

/** Vital product data. */
export const Vpd = { ADDR: 2, ADDR_F: 0x8000, ADDR_MASK: 0x7fff, DATA: 4 } as const;

/** MSI. */
export const Msi = {
  FLAGS: 2,
  FLAGS_ENABLE: 0x0001,
  FLAGS_QMASK: 0x000e,
  FLAGS_QSIZE: 0x0070,
  FLAGS_64BIT: 0x0080,
  FLAGS_MASKBIT: 0x0100,
  ADDRESS_LO: 4,
  ADDRESS_HI: 8,
  DATA_32: 8,
  MASK_32: 12,
  PENDING_32: 16,
  DATA_64: 12,
  MASK_64: 16,
  PENDING_64: 20,
} as const;

/** MSI-X, and the entries of its table. */
export const Msix = {
  FLAGS: 2,
  FLAGS_QSIZE: 0x07ff,
  FLAGS_MASKALL: 0x4000,
  FLAGS_ENABLE: 0x8000,
  TABLE: 4,
  PBA: 8,
  BIR_MASK: 0x7,
  ENTRY_SIZE: 16,
  ENTRY_LOWER_ADDR: 0,
  ENTRY_UPPER_ADDR: 4,
  ENTRY_DATA: 8,
  ENTRY_VECTOR_CTRL: 12,
  ENTRY_CTRL_MASKBIT: 1,
} as const;

/** PCI Express. */
export const Exp = {
  FLAGS: 2,
  FLAGS_VERS: 0x000f,
  FLAGS_TYPE: 0x00f0,
  FLAGS_SLOT: 0x0100,
  DEVCAP: 4,
  DEVCAP_PHANTOM: 0x0000_0018,
  DEVCAP_FLR: 0x1000_0000,
  DEVCTL: 8,
  DEVCTL_CERE: 0x0001,
  DEVCTL_NFERE: 0x0002,
  DEVCTL_FERE: 0x0004,
  DEVCTL_URRE: 0x0008,
  DEVCTL_RELAX_EN: 0x0010,
  DEVCTL_PAYLOAD: 0x00e0,
  DEVCTL_EXT_TAG: 0x0100,
  DEVCTL_PHANTOM: 0x0200,
  DEVCTL_NOSNOOP_EN: 0x0800,
  DEVCTL_READRQ: 0x7000,
  DEVCTL_BCR_FLR: 0x8000,
  DEVSTA: 10,
  DEVSTA_TRPND: 0x20,
  LNKCAP: 12,
  LNKCAP_DLLLARC: 0x10_0000,
  LNKCTL: 16,
  LNKSTA: 18,
  LNKSTA_DLLLA: 0x2000,
  SLTCAP: 20,
  SLTCAP_HPC: 0x40,
  SLTCTL: 24,
  SLTSTA: 26,
  RTCTL: 28,
  RTSTA: 32,
  DEVCAP2: 36,
  DEVCAP2_ARI: 0x20,
  DEVCAP2_ATOMIC_ROUTE: 0x40,
  DEVCAP2_ATOMIC_COMP32: 0x80,
  DEVCAP2_ATOMIC_COMP64: 0x100,
  DEVCAP2_ATOMIC_COMP128: 0x200,
  DEVCAP2_EE_PREFIX: 0x20_0000,
  DEVCTL2: 40,
  DEVCTL2_ARI: 0x20,
  DEVCTL2_ATOMIC_REQ: 0x40,
  DEVCTL2_ATOMIC_EGRESS_BLOCK: 0x80,
  LNKCAP2: 44,
  LNKCAP2_ABOVE_5GT: 0xf8,
  LNKCTL2: 48,
} as const;

/** What a PCI Express function is, out of its flags. */
export const ExpType = {
  ENDPOINT: 0x0,
  LEG_END: 0x1,
  ROOT_PORT: 0x4,
  UPSTREAM: 0x5,
  DOWNSTREAM: 0x6,
  PCI_BRIDGE: 0x7,
  PCIE_BRIDGE: 0x8,
  RC_END: 0x9,
  RC_EC: 0xa,
} as const;

/** Advanced features of conventional PCI. */
export const Af = { LENGTH: 2, CAP: 3, CAP_TP: 0x01, CAP_FLR: 0x02, CTRL: 4, CTRL_FLR: 0x01, STATUS: 5 } as const;

/** PCI-X. */
export const Pcix = { CMD: 2, STATUS: 4, ECC_CSR: 8 } as const;

/** Single root I/O virtualization. */
export const Sriov = {
  CAP: 4,
  CTRL: 8,
  CTRL_VFE: 0x01,
  CTRL_INTR: 0x04,
  CTRL_MSE: 0x08,
  CTRL_ARI: 0x10,
  STATUS: 10,
  INITIAL_VF: 12,
  TOTAL_VF: 14,
  NUM_VF: 16,
  FUNC_LINK: 18,
  VF_OFFSET: 20,
  VF_STRIDE: 22,
  VF_DID: 26,
  SUP_PGSIZE: 28,
  SYS_PGSIZE: 32,
  BAR: 36,
  NUM_BARS: 6,
  SIZEOF: 0x40,
} as const;

/** Access control services. */
export const Acs = {
  CAP: 4,
  CTRL: 6,
  SV: 0x0001,
  TB: 0x0002,
  RR: 0x0004,
  CR: 0x0008,
  UF: 0x0010,
  EC: 0x0020,
  DT: 0x0040,
  EGRESS_BITS: 5,
} as const;

/** Alternative routing ID. */
export const Ari = { CAP: 4, CAP_MFVC: 0x0001, CTRL: 6 } as const;

/** Advanced error reporting. */
export const Err = {
  UNCOR_STATUS: 4,
  UNCOR_MASK: 8,
  UNCOR_SEVER: 12,
  COR_STATUS: 16,
  COR_MASK: 20,
  CAP: 24,
  HEADER_LOG: 28,
} as const;

/** Class codes, base class and subclass. */
export const PciClass = {
  NOT_DEFINED: 0x0000,
  STORAGE_IDE: 0x0101,
  NETWORK_ETHERNET: 0x0200,
  DISPLAY_VGA: 0x0300,
  BRIDGE_HOST: 0x0600,
  BRIDGE_ISA: 0x0601,
  BRIDGE_PCI: 0x0604,
} as const;

/** Index of a resource of a function. Source: include/linux/pci.h */
export const ResourceIndex = {
  BAR0: 0,
  ROM: 6,
  IOV: 7,
  BRIDGE: 13,
  COUNT: 17,
} as const;

/** `device << 3 | function`. */
export function devfnOf(device: number, fn: number): number {
  return (device << 3) | fn;
}

/** The device number of a devfn. */
export function slotOf(devfn: number): number {
  return devfn >> 3;
}

/** The function number of a devfn. */
export function funcOf(devfn: number): number {
  return devfn & 7;
}

/** `0000:00:02.0`. */
export function pciName(domain: number, bus: number, devfn: number): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  return `${hex(domain, 4)}:${hex(bus, 2)}:${hex(slotOf(devfn), 2)}.${funcOf(devfn)}`;
}
