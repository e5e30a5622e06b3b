/*
 * What displays of Intel have beside their BARs: the OpRegion, and what their drivers look up in the host bridge and in the LPC
 * bridge of the chipset.
 */
import { RegionInfoFlag, RegionSubtype, VfioError } from '@vfio/core';
import type { UserBuffer } from '@vfio/host';
import { readConfig } from '../bus/config.js';
import { widthAt } from '../bus/cycles.js';
import type { PciDev } from '../bus/pci-dev.js';
import { devfnOf, PciClass } from '../bus/regs.js';
import { configUnblocked } from './config/config-state.js';
import type { PciCoreDevice } from './core-device.js';
import { INTEL, INTEL_REGION, igdOpregionInit } from './igd-opregion.js';
import { failure } from './pci-failure.js';
import { type DeviceRegionOps, registerDevRegion } from './regions/device-region.js';

const HOST_BRIDGE = devfnOf(0, 0);
const LPC_BRIDGE = devfnOf(0x1f, 0);

/**
 * Adds the regions of an Intel display to a device that is being opened. What was added before it fails stays until it is closed.
 *
 * @throws ENODEV - it has no OpRegion, or a bridge is not there
 * @throws EINVAL - what is there is no OpRegion, or not the bridge that it should be
 * @throws ENOMEM
 * @source drivers/vfio/pci/vfio_pci_igd.c vfio_pci_igd_init()
 */
export async function igdInit(device: PciCoreDevice): Promise<void> {
  await igdOpregionInit(device);
  const { INTEL_IGD_HOST_CFG, INTEL_IGD_LPC_CFG } = RegionSubtype;
  cfgInit(device, HOST_BRIDGE, PciClass.BRIDGE_HOST, INTEL_IGD_HOST_CFG);
  cfgInit(device, LPC_BRIDGE, PciClass.BRIDGE_ISA, INTEL_IGD_LPC_CFG);
}

/** Source: drivers/vfio/pci/vfio_pci_igd.c vfio_pci_igd_cfg_init() */
function cfgInit(device: PciCoreDevice, devfn: number, pciClass: number, subtype: number): void {
  const { pdev } = device;
  const bridge = pdev.pciBus.domain.type.find(0, 0, devfn);
  if (!bridge) throw failure('ENODEV', pdev, `no bridge at devfn ${devfn}`, 'vfio_pci_igd_init');
  if (bridge.vendor !== INTEL || bridge.classCode !== pciClass << 8) {
    throw failure('EINVAL', pdev, `${bridge.name} is not the bridge of its chipset`, 'vfio_pci_igd_init');
  }
  const { cfgSize: size } = bridge;
  const ops = new BridgeConfig(bridge, size);
  registerDevRegion(device, { type: INTEL_REGION, subtype, ops, size, flags: RegionInfoFlag.READ });
  bridge.get();
}

/** Config space of a bridge, to be read. Source: drivers/vfio/pci/vfio_pci_igd.c vfio_pci_igd_cfg_regops */
class BridgeConfig implements DeviceRegionOps {
  readonly #bridge: PciDev;
  readonly #size: number;

  constructor(bridge: PciDev, size: number) {
    this.#bridge = bridge;
    this.#size = size;
  }

  /** Source: drivers/vfio/pci/vfio_pci_igd.c vfio_pci_igd_cfg_rw() */
  async rw(_device: PciCoreDevice, buffer: UserBuffer, offset: number, isWrite: boolean): Promise<number> {
    if (offset >= this.#size || isWrite) {
      const reason = isWrite ? 'it is read-only' : `it has ${this.#size} bytes`;
      throw new VfioError('EINVAL', reason, { subject: this.#bridge.name });
    }
    const count = Math.min(buffer.length, this.#size - offset);
    for (let done = 0; done < count; ) {
      const width = widthAt(offset + done, count - done);
      await configUnblocked(this.#bridge);
      const value = readConfig(this.#bridge, offset + done, width);
      if (done + width > buffer.bytes.length) {
        throw new VfioError('EFAULT', `only ${buffer.bytes.length} bytes of the buffer are accessible`);
      }
      for (let lane = 0; lane < width; lane++) buffer.bytes[done + lane] = value >>> (8 * lane);
      done += width;
    }
    return count;
  }

  release(): void {
    this.#bridge.put();
  }
}
