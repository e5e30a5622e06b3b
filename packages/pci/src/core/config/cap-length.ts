/*
 * How long capabilities are. Most have a length that their kind says; some say it themselves. One without a length is hidden.
 */
import { readConfigByte, readConfigDword, readConfigWord } from '../../bus/config.js';
import type { PciDev } from '../../bus/pci-dev.js';
import { Acs, CapId, Exp, ExpType, ExtCapId, Msi, Pcix } from '../../bus/regs.js';
import { failure } from '../pci-failure.js';

/** Bytes from a capability's start to what says its length. */
const At = {
  VNDR_LENGTH: 2,
  HT_TYPE: 3,
  SATA_REGS: 4,
  HEADER1: 4,
  VC_CAP1: 4,
  VC_CAP2: 8,
  REBAR_CTRL: 8,
  DPA_CAP: 4,
  TPH_CAP: 4,
} as const;
/** Version in the command register of PCI-X. */
const PCIX_VERSION = 0x3000;
const HT_3BIT_TYPE = 0xe0;
const SATA = { MASK: 0xf, INLINE: 0xf } as const;
const EXP_V1 = { ROOT_COMPLEX: 12, WITH_LINK: 20 } as const;
const EXP_V2 = { ROOT_COMPLEX: 0x2c, WITH_LINK: 0x34 } as const;
const ACS_EGRESS_MAX = 256;
const VC = {
  BASE: 0x10,
  PER_VC: 12,
  COUNT: 0x7,
  PHASES: [
    [0x8, 128],
    [0x4, 64],
    [0x2, 32],
  ],
  PHASE_BITS: 4,
  ALIGN: 16,
} as const;
const REBAR = { BASE: 4, PER_BAR: 8, COUNT_SHIFT: 5 } as const;
const DPA = { BASE: 16, SUBSTATES: 0x1f } as const;
const TPH = { BASE: 12, LOCATION: 0x600, IN_CAP: 0x200, ENTRIES: 0x07ff_0000, ENTRY: 2 } as const;
const LENGTH_SHIFT = 20;

/** Bytes of those with one length. */
const fixed: ReadonlyMap<number, number> = new Map<number, number>([
  [CapId.PM, 8],
  [CapId.AGP, 12],
  [CapId.VPD, 8],
  [CapId.MSIX, 12],
  [CapId.AF, 6],
]);

const extFixed: ReadonlyMap<number, number> = new Map<number, number>([
  [ExtCapId.ERR, 0x2c],
  [ExtCapId.DSN, 12],
  [ExtCapId.PWR, 16],
  [ExtCapId.ARI, 8],
  [ExtCapId.ATS, 8],
  [ExtCapId.SRIOV, 0x40],
  [ExtCapId.MCAST, 40],
  [ExtCapId.PRI, 16],
  [ExtCapId.LTR, 8],
]);

/**
 * Bytes of a capability of the first 256 bytes.
 *
 * @returns 0 - the user does not get to see it
 * @throws EFAULT - a register that says it is at an odd address
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_cap_len()
 */
export function capLength(pdev: PciDev, id: number, at: number): number {
  switch (id) {
    case CapId.MSI: {
      const flags = readWord(pdev, at + Msi.FLAGS);
      return 10 + ((flags & Msi.FLAGS_64BIT) === 0 ? 0 : 4) + ((flags & Msi.FLAGS_MASKBIT) === 0 ? 0 : 10);
    }
    case CapId.PCIX:
      return hasPcix2(pdev, at) ? 24 : 8;
    case CapId.VNDR:
      return readConfigByte(pdev, at + At.VNDR_LENGTH);
    case CapId.HT:
      return (readConfigByte(pdev, at + At.HT_TYPE) & HT_3BIT_TYPE) === 0 ? 28 : 24;
    case CapId.EXP:
      return expLength(pdev);
    case CapId.SATA:
      return (readConfigByte(pdev, at + At.SATA_REGS) & SATA.MASK) === SATA.INLINE ? 16 : 8;
    default:
      return fixed.get(id) ?? 0;
  }
}

/** Whether there is PCI-X of a version that has extended config space. */
export function hasPcix2(pdev: PciDev, at: number): boolean {
  return (readWord(pdev, at + Pcix.CMD) & PCIX_VERSION) !== 0;
}

/** A register is at an odd address only where a list of capabilities is broken. */
function readWord(pdev: PciDev, at: number): number {
  if (at % 2 !== 0) throw failure('EFAULT', pdev, `no register of two bytes at 0x${at.toString(16)}`, 'vfio_cap_len');
  return readConfigWord(pdev, at);
}

/** Inside of the root complex there is no link. */
function expLength({ pcieFlags, pcieType }: PciDev): number {
  const lengths = (pcieFlags & Exp.FLAGS_VERS) === 1 ? EXP_V1 : EXP_V2;
  return pcieType === ExpType.RC_END ? lengths.ROOT_COMPLEX : lengths.WITH_LINK;
}

/**
 * Bytes of an extended capability.
 *
 * @returns 0 - the user does not get to see it
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_ext_cap_len()
 */
export function extCapLength(pdev: PciDev, id: number, at: number): number {
  switch (id) {
    case ExtCapId.VC:
    case ExtCapId.MFVC:
    case ExtCapId.VC9:
      return vcLength(pdev, at);
    case ExtCapId.VNDR:
    case ExtCapId.DVSEC:
      return readConfigDword(pdev, at + At.HEADER1) >>> LENGTH_SHIFT;
    case ExtCapId.ACS:
      return acsLength(pdev, at);
    case ExtCapId.REBAR:
      return REBAR.BASE + REBAR.PER_BAR * (readConfigByte(pdev, at + At.REBAR_CTRL) >> REBAR.COUNT_SHIFT);
    case ExtCapId.DPA:
      return DPA.BASE + 1 + (readConfigByte(pdev, at + At.DPA_CAP) & DPA.SUBSTATES);
    case ExtCapId.TPH:
      return tphLength(pdev, at);
    default:
      return extFixed.get(id) ?? 0;
  }
}

/** Source: drivers/vfio/pci/vfio_pci_config.c vfio_vc_cap_len() */
function vcLength(pdev: PciDev, at: number): number {
  const count = readConfigDword(pdev, at + At.VC_CAP1) & VC.COUNT;
  const arbitration = readConfigDword(pdev, at + At.VC_CAP2);
  const length = VC.BASE + VC.PER_VC * (1 + count);
  const phases = VC.PHASES.find(([bit]) => (arbitration & bit) !== 0)?.[1];
  return phases === undefined ? length : roundUp(length, VC.ALIGN) + (phases * VC.PHASE_BITS) / 8;
}

/** A vector with a bit for each port, where egress is controlled. */
function acsLength(pdev: PciDev, at: number): number {
  if ((readConfigByte(pdev, at + Acs.CAP) & Acs.EC) === 0) return 8;
  const ports = readConfigByte(pdev, at + Acs.EGRESS_BITS);
  return 8 + (ports === 0 ? ACS_EGRESS_MAX : roundUp(ports, 32)) / 8;
}

/** Its table may be here. */
function tphLength(pdev: PciDev, at: number): number {
  const cap = readConfigDword(pdev, at + At.TPH_CAP);
  if ((cap & TPH.LOCATION) !== TPH.IN_CAP) return TPH.BASE;
  return TPH.BASE + TPH.ENTRY * (1 + ((cap & TPH.ENTRIES) >>> 16));
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
