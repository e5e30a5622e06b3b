/*
 * What the accesses to config space work on: the user's copy, the map, and what has to be put back when the hardware has lost it.
 */
import { readConfig, writeConfig } from '../../bus/config.js';
import { widthAt } from '../../bus/cycles.js';
import type { PciWidth } from '../../bus/function.js';
import type { PciDev } from '../../bus/pci-dev.js';
import { Reg, STD_HEADER_SIZE } from '../../bus/regs.js';
import type { PciCoreDevice } from '../core-device.js';
import { ConfigBytes, ONES } from './config-bytes.js';
import { ConfigMap } from './config-map.js';

/** BARs and the ROM. */
const BARS = 6;

/** Registers of a capability that is cut off by the end of config space may lie behind it. */
const BEHIND_END = 32;

/** State of the config space of an open device. */
export class ConfigState {
  readonly device: PciCoreDevice;
  readonly pdev: PciDev;
  /** The copy: what virtual bits are. */
  readonly vconfig: ConfigBytes;
  readonly map: ConfigMap;
  /** BARs and the ROM's as the hardware had them at open. Source: vfio_pci_core.h rbar */
  readonly savedBars: readonly number[];
  /** BARs were written since they were read. */
  barDirty = true;
  msiQmax = 0;

  /** The header is copied; capabilities are not yet looked for. */
  constructor(device: PciCoreDevice) {
    const { cfgSize } = device.pdev;
    this.device = device;
    this.pdev = device.pdev;
    this.vconfig = new ConfigBytes(cfgSize + BEHIND_END);
    this.map = new ConfigMap(cfgSize);
    this.fill(0, STD_HEADER_SIZE);
    this.savedBars = barRegisters.map((register) => this.vconfig.get(register, 4));
  }

  /** Copies from the hardware. Source: drivers/vfio/pci/vfio_pci_config.c vfio_fill_vconfig_bytes() */
  fill(offset: number, size: number): void {
    for (let done = 0; done < size; ) {
      const at = offset + done;
      const width = widthAt(at, size - done);
      this.vconfig.set(at, width, readConfig(this.pdev, at, width));
      done += width;
    }
  }

  /** Whether an access needs the hardware. */
  reachesHardware(position: number, width: PciWidth): boolean {
    return this.map.virt.get(position, width) !== ONES[width];
  }

  /**
   * One read. Virtual bits come from the copy, others from the hardware.
   *
   * @source drivers/vfio/pci/vfio_pci_config.c vfio_default_config_read()
   */
  readBits(position: number, width: PciWidth): number {
    const virt = this.map.virt.get(position, width);
    if (virt === 0) return readConfig(this.pdev, position, width);
    const own = this.vconfig.get(position, width);
    if (virt === ONES[width]) return own;
    return ((readConfig(this.pdev, position, width) & ~virt) | (own & virt)) >>> 0;
  }

  /**
   * One write. Of writable bits, those that are virtual go to the copy, others to the hardware.
   *
   * @source drivers/vfio/pci/vfio_pci_config.c vfio_default_config_write()
   */
  writeBits(position: number, width: PciWidth, value: number): void {
    const write = this.map.write.get(position, width);
    const virt = this.map.virt.get(position, width);
    const own = write & virt;
    const physical = write & ~virt;
    if (own !== 0) this.vconfig.set(position, width, (this.vconfig.get(position, width) & ~own) | (value & own));
    if (physical === 0) return;
    const before = readConfig(this.pdev, position, width);
    writeConfig(this.pdev, position, width, ((before & ~physical) | (value & physical)) >>> 0);
  }
}

/** Registers of the BARs and of the ROM's. */
export const barRegisters: readonly number[] = [
  ...Array.from({ length: BARS }, (_, bar) => Reg.BASE_ADDRESS_0 + 4 * bar),
  Reg.ROM_ADDRESS,
];

/** Waits while the function is being reset. */
export async function configUnblocked(pdev: PciDev): Promise<void> {
  while (pdev.cfgBlocked !== undefined) await pdev.cfgBlocked;
}
