/*
 * Registers of the PCI Express capability. Which of them are there depends on the version and on what the function is; those
 * that are not read as zero, and writes to them are lost.
 */
import { SystemError } from '@vfio/host';
import { readConfigDword, readConfigWord, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { Exp, ExpType } from './regs.js';

/** Sizes in registers: 0 is this many bytes, each number more is twice as many. */
const SMALLEST = 128;
const LARGEST = 4096;
const READRQ_SHIFT = 12;
const PAYLOAD_SHIFT = 5;

/** A 16-bit register of the capability, 0 where the function has none. Source: drivers/pci/access.c pcie_capability_read_word() */
export function pcieReadWord(pdev: PciDev, register: number): number {
  return hasRegister(pdev, register) ? readConfigWord(pdev, pdev.pcieCap + register) : 0;
}

/** As `pcieReadWord`, of 32 bits. Source: drivers/pci/access.c pcie_capability_read_dword() */
export function pcieReadDword(pdev: PciDev, register: number): number {
  return hasRegister(pdev, register) ? readConfigDword(pdev, pdev.pcieCap + register) : 0;
}

/** Lost where the function has no such register. Source: drivers/pci/access.c pcie_capability_write_word() */
export function pcieWriteWord(pdev: PciDev, register: number, value: number): void {
  if (hasRegister(pdev, register)) writeConfigWord(pdev, pdev.pcieCap + register, value);
}

/** Whether a function has a register of the capability. Source: drivers/pci/access.c pcie_capability_reg_implemented() */
function hasRegister(pdev: PciDev, register: number): boolean {
  if (!pdev.isPcie) return false;
  if (register >= Exp.DEVCAP2) return (pdev.pcieFlags & Exp.FLAGS_VERS) > 1;
  if (register >= Exp.RTCTL) return pdev.pcieType === ExpType.ROOT_PORT || pdev.pcieType === ExpType.RC_EC;
  if (register >= Exp.SLTCAP) return isDownstream(pdev) && (pdev.pcieFlags & Exp.FLAGS_SLOT) !== 0;
  if (register >= Exp.LNKCAP) return hasLink(pdev);
  return true;
}

/** Source: include/linux/pci.h pcie_downstream_port() */
function isDownstream({ pcieType }: PciDev): boolean {
  return pcieType === ExpType.ROOT_PORT || pcieType === ExpType.DOWNSTREAM || pcieType === ExpType.PCIE_BRIDGE;
}

/** Functions inside of the root complex have none. Source: drivers/pci/access.c pcie_cap_has_lnkctl() */
function hasLink({ pcieType }: PciDev): boolean {
  return pcieType !== ExpType.RC_END && pcieType !== ExpType.RC_EC;
}

/** Largest read request, in bytes. Source: drivers/pci/pci.c pcie_get_readrq() */
export function pcieGetReadrq(pdev: PciDev): number {
  return SMALLEST << ((pcieReadWord(pdev, Exp.DEVCTL) & Exp.DEVCTL_READRQ) >> READRQ_SHIFT);
}

/**
 * @param bytes - 128 to 4096, a power of two
 * @throws EINVAL
 * @source drivers/pci/pci.c pcie_set_readrq()
 */
export function pcieSetReadrq(pdev: PciDev, bytes: number): void {
  const power = Math.log2(bytes / SMALLEST);
  if (!Number.isInteger(power) || bytes < SMALLEST || bytes > LARGEST) {
    throw new SystemError('EINVAL', `no read request has ${bytes} bytes`, {
      syscall: 'pcie_set_readrq',
      subject: pdev.name,
    });
  }
  const control = pcieReadWord(pdev, Exp.DEVCTL) & ~Exp.DEVCTL_READRQ;
  pcieWriteWord(pdev, Exp.DEVCTL, control | (power << READRQ_SHIFT));
}

/** Largest payload, in bytes. Source: drivers/pci/pci.c pcie_get_mps() */
export function pcieGetMps(pdev: PciDev): number {
  return SMALLEST << ((pcieReadWord(pdev, Exp.DEVCTL) & Exp.DEVCTL_PAYLOAD) >> PAYLOAD_SHIFT);
}

/**
 * Lets a function send atomic operations to the root, when everything on the way can do those of `capMask` (DEVCAP2 bits).
 *
 * @throws EINVAL - something on the way can not, or the function is no endpoint
 * @source drivers/pci/pci.c pci_enable_atomic_ops_to_root()
 */
export function enableAtomicOpsToRoot(pdev: PciDev, capMask: number): void {
  const refuse = (reason: string): never => {
    throw new SystemError('EINVAL', reason, { syscall: 'pci_enable_atomic_ops_to_root', subject: pdev.name });
  };
  // The control bit of a virtual function is reserved: its physical function decides.
  if (pdev.isVirtfn || !pdev.isPcie) refuse('it has no control of its own');
  const { ENDPOINT, LEG_END, RC_END } = ExpType;
  if (![ENDPOINT, LEG_END, RC_END].some((type) => type === pdev.pcieType)) refuse('not an endpoint');
  for (let bridge = pdev.pciBus.self; bridge; bridge = bridge.pciBus.self) {
    const cap = pcieReadDword(bridge, Exp.DEVCAP2);
    const { pcieType, name } = bridge;
    const passesOn = pcieType === ExpType.UPSTREAM || pcieType === ExpType.DOWNSTREAM;
    if (passesOn && (cap & Exp.DEVCAP2_ATOMIC_ROUTE) === 0) refuse(`${name} does not route them`);
    if (pcieType === ExpType.ROOT_PORT && (cap & capMask) !== capMask) refuse(`${name} does not complete them`);
    const blocks = (pcieReadWord(bridge, Exp.DEVCTL2) & Exp.DEVCTL2_ATOMIC_EGRESS_BLOCK) !== 0;
    if (pcieType === ExpType.UPSTREAM && blocks) refuse(`${name} blocks them`);
  }
  pcieWriteWord(pdev, Exp.DEVCTL2, pcieReadWord(pdev, Exp.DEVCTL2) | Exp.DEVCTL2_ATOMIC_REQ);
}
