/*
 * Files about links and buses: how fast a link is, and which buses are behind a bridge.
 */
import { type Attribute, SystemError } from '@vfio/host';
import { readConfigByte, readConfigDword, readConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { BridgeReg, Exp, ExpType } from './regs.js';

const SPEED_MASK = 0xf;
const WIDTH_SHIFT = 4;
const WIDTH_MASK = 0x3f;

/** By their number in the link registers. Source: drivers/pci/pci.h PCIE_SPEED2STR */
const speeds: readonly string[] = [
  'Unknown',
  '2.5 GT/s PCIe',
  '5.0 GT/s PCIe',
  '8.0 GT/s PCIe',
  '16.0 GT/s PCIe',
  '32.0 GT/s PCIe',
  '64.0 GT/s PCIe',
];

/** Source: drivers/pci/pci-sysfs.c pcie_dev_attrs, pci_bridge_attrs */
export function linkAttributes(pdev: PciDev): Attribute[] {
  return [...(hasLink(pdev) ? linkFiles(pdev) : []), ...(pdev.isBridge ? bridgeFiles(pdev) : [])];
}

/** Functions of the root complex have none. */
function hasLink(pdev: PciDev): boolean {
  return pdev.isPcie && pdev.pcieType !== ExpType.RC_END && pdev.pcieType !== ExpType.RC_EC;
}

function linkFiles(pdev: PciDev): Attribute[] {
  const file = (name: string, value: () => string | number): Attribute => ({
    name,
    mode: 0o444,
    show: () => `${value()}\n`,
  });
  const capability = () => readConfigDword(pdev, pdev.pcieCap + Exp.LNKCAP);
  const status = () => readConfigWord(pdev, pdev.pcieCap + Exp.LNKSTA);
  return [
    file('current_link_speed', () => speeds[status() & SPEED_MASK] ?? 'Unknown'),
    file('current_link_width', () => (status() >> WIDTH_SHIFT) & WIDTH_MASK),
    file('max_link_speed', () => speeds[capability() & SPEED_MASK] ?? 'Unknown'),
    file('max_link_width', () => (capability() >> WIDTH_SHIFT) & WIDTH_MASK),
  ];
}

function bridgeFiles(pdev: PciDev): Attribute[] {
  const file = (name: string, register: number): Attribute => ({
    name,
    mode: 0o444,
    show: () => {
      if (pdev.disconnected) throw new SystemError('EINVAL', 'the bridge is gone', { subject: pdev.name });
      return `${readConfigByte(pdev, register)}\n`;
    },
  });
  return [
    file('secondary_bus_number', BridgeReg.SECONDARY_BUS),
    file('subordinate_bus_number', BridgeReg.SUBORDINATE_BUS),
  ];
}
