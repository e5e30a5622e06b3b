/*
 * BARs of the user. They are storage, which shows at the next read what a BAR would: an address that is aligned, and what kind it
 * is. The real ones are never written.
 */
import type { PciDev } from '../../bus/pci-dev.js';
import { BaseAddress, Reg, RomAddress } from '../../bus/regs.js';
import { ResourceFlag } from '../../bus/resource-tree.js';
import { resourceFlags, resourceLen, resourceStart } from '../../bus/resources.js';
import { romRegionSize } from '../regions/rom.js';
import type { ConfigState } from './config-state.js';

const BARS = 6;
const BAR_SIZE = 4;
const HALF = 2 ** 32;

/** Makes BARs that were written what a BAR can be. Source: drivers/vfio/pci/vfio_pci_config.c vfio_bar_fixup() */
export function barFixup(state: ConfigState): void {
  if (!state.barDirty) return;
  const { pdev, vconfig } = state;
  for (let bar = 0; bar < BARS; bar++) {
    const register = Reg.BASE_ADDRESS_0 + BAR_SIZE * bar;
    // What the host has no address for is not there.
    if (resourceStart(pdev, bar) === 0) {
      vconfig.set(register, 4, 0);
      continue;
    }
    const last = resourceLen(pdev, bar) - 1;
    const value = (vconfig.get(register, 4) & ~(last % HALF)) | barFlags(pdev, bar);
    vconfig.set(register, 4, value);
    // This also takes a port for a wide BAR if its address has that bit.
    if ((value & BaseAddress.MEM_TYPE_64) === 0) continue;
    const upper = register + BAR_SIZE;
    vconfig.set(upper, 4, vconfig.get(upper, 4) & ~Math.floor(last / HALF));
    bar++;
  }
  fixRom(state);
  state.barDirty = false;
}

/** Source: drivers/vfio/pci/vfio_pci_config.c vfio_generate_bar_flags() */
function barFlags(pdev: PciDev, bar: number): number {
  const flags = resourceFlags(pdev, bar);
  if ((flags & ResourceFlag.IO) !== 0) return BaseAddress.SPACE_IO;
  const prefetch = (flags & ResourceFlag.PREFETCH) === 0 ? 0 : BaseAddress.MEM_PREFETCH;
  return prefetch | ((flags & ResourceFlag.MEM_64) === 0 ? 0 : BaseAddress.MEM_TYPE_64);
}

/** Its size is shown even where region info says that nothing can be read. */
function fixRom({ pdev, vconfig }: ConfigState): void {
  const size = romRegionSize(pdev);
  const mask = size === 0 ? 0 : ~(size - 1) | RomAddress.ENABLE;
  vconfig.set(Reg.ROM_ADDRESS, 4, vconfig.get(Reg.ROM_ADDRESS, 4) & mask);
}
